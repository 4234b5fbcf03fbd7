"use strict";
// All images as points: coloured, with the picture at the pointer, a lasso, and pictures in place of points when few are in view.

(() => {
  const PICTURES = 220;
  const LEGEND = 60;
  const state = { color: "group", tool: "pan" };

  report.views.map = async ([name], signal) => {
    const raw = await report.load("map");
    const entry = report.chosen(name ?? "");
    const model = entry ? await report.model(entry) : null;
    if (signal.aborted) return null;
    const canvas = report.el("canvas", { tabindex: "0", role: "application", "aria-roledescription": "map",
      "aria-label": `Map of ${report.count(report.images.count, "image")}. Arrow keys move it, plus and minus zoom, 0 shows all, Enter opens the image in the middle.` });
    const points = new report.Points(canvas, report.array(raw.x, Uint16Array), report.array(raw.y, Uint16Array));
    const tip = report.el("div", { class: "tip", hidden: true });
    const cross = report.el("div", { class: "cross", "aria-hidden": "true" });
    const legend = report.el("div", { class: "legend" });
    const chosen = report.el("div", { class: "chosen" });
    const kinds = report.colorings(model);
    const map = { points, canvas, tip, model, signal, legend, chosen, tool: state.tool, loaded: new Map(), asked: false, only: null,
      kind: kinds.find((kind) => kind.key === state.color) ?? kinds[0] };
    actions(map);
    report.gestures(map);
    const frame = report.el("div", { class: "map-frame" }, canvas, cross, tip, zoom(map));
    new ResizeObserver(() => { points.resize(); map.moved(); }).observe(canvas);
    addEventListener("sslpipe-theme", () => { paint(map); map.moved(); }, { signal });
    paint(map);
    report.openMap = map;
    const tool = report.el("div", { class: "either", role: "group", "aria-label": "Dragging" }, [["pan", "Move"], ["lasso", "Lasso"]].map(([key, text]) =>
      report.button(text, (event) => {
        map.tool = state.tool = key;
        for (const other of tool.children) other.setAttribute("aria-pressed", other === event.currentTarget);
      }, { "aria-pressed": String(state.tool === key) })));
    return [
      report.el("h1", {}, "Map"),
      report.el("div", { class: "tools" },
        entry && report.modelChoice(entry, (other) => (location.hash = report.address("map", other))),
        report.select("Colour", kinds.map((kind) => [kind.key, kind.text]), map.kind.key, (value) => {
          state.color = value;
          map.kind = kinds.find((kind) => kind.key === value);
          map.only = points.lit = null;
          map.chosen.replaceChildren();
          paint(map);
          map.moved();
        }), tool,
        report.button("List what is in view", () => choose(map, "In view", () => points.visible())),
        report.el("p", { class: "hint how" }, report.shown(raw.how))),
      report.el("div", { class: "map" }, frame, legend),
      report.el("p", { class: "hint" }, "Drag to move, wheel or pinch to zoom, Shift and drag for a lasso; a click shows an image with its neighbours. ",
        "By keyboard: arrows, + and −, 0 for all, Enter for the image in the middle."),
      chosen,
    ];
  };

  const zoom = (map) => report.el("div", { class: "zoom" },
    [["+", "Zoom in", () => map.points.zoomAt(1.6)], ["−", "Zoom out", () => map.points.zoomAt(1 / 1.6)], ["⤢", "Show all", () => map.points.reset()]]
      .map(([text, label, work]) => report.button(text, () => { work(); map.moved(); }, { "aria-label": label, title: label })));

  function actions(map) {
    const { points } = map;
    map.moved = () => {
      if (map.asked) return;
      map.asked = true;
      requestAnimationFrame(() => { map.asked = false; draw(map); });
    };
    map.leave = () => { map.tip.hidden = true; };
    map.hover = (image) => {
      map.canvas.classList.toggle("on-point", image >= 0);
      if (image < 0) map.leave();
      else show(map, image);
    };
    map.click = (image) => report.open(image);
    map.step = (image) => {
      if (image < 0) return;
      show(map, image);
      report.say(`In the middle: ${report.name(image)}${map.model ? `, ${map.model.groupName(map.model.group[image])}` : ""}`);
    };
    map.lasso = (polygon, done) => {
      map.polygon = done ? null : polygon;
      map.moved();
      if (done) choose(map, "In the lasso", () => points.inside(polygon));
    };
  }

  function show(map, image) {
    const { tip, points, model } = map;
    const [x, y] = points.toScreen(image).map((value) => value / points.ratio);
    if (tip.hidden || tip.dataset.image !== String(image)) {
      tip.dataset.image = image;
      const label = report.images.label[image];
      tip.replaceChildren(report.thumb(image), report.el("div", {},
        report.el("strong", {}, report.text(report.name(image))),
        model && report.el("div", {}, report.text(model.groupName(model.group[image])), ` ${report.percent(model.confidence[image] / 255)}`),
        label >= 0 && report.el("div", { class: "hint" }, "label ", report.text(report.className(label)))));
    }
    tip.hidden = false;
    const { clientWidth: width, clientHeight: height } = map.canvas;
    tip.style.left = `${Math.max(4, Math.min(width - tip.offsetWidth - 4, x + 14))}px`;
    tip.style.top = `${Math.max(4, y + 14 + tip.offsetHeight > height ? y - 14 - tip.offsetHeight : y + 14)}px`;
  }

  /* Lists images, of those that the legend highlights; `find` returns them. */
  function choose(map, title, find) {
    const { points } = map;
    map.leave();
    points.lit = map.only;
    const indices = find();
    if (indices.length) {
      points.lit = new Uint8Array(points.count);
      for (const image of indices) points.lit[image] = 1;
    }
    const close = () => { points.lit = map.only; map.chosen.replaceChildren(); map.moved(); map.canvas.focus(); };
    const note = map.only && "Only of those that are highlighted in the legend.";
    map.chosen.replaceChildren(report.selection(title, indices, { close, note }));
    map.chosen.querySelector("h2").focus({ preventScroll: true });
    map.chosen.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    map.moved();
  }

  function paint(map) {
    const { points, kind } = map;
    for (let i = 0; i < points.count; i++) {
      const id = kind.of ? kind.of(i) : 0;
      points.colors[i] = report.pixel(kind.share ? report.ramp(kind.share(i)) : id < 0 ? (report.dark() ? "#7d8590" : "#9aa0a8") : report.hue(id));
      points.shapes[i] = kind.of && id >= 0 ? report.shape(id) : 0;
    }
    map.legend.replaceChildren(...(kind.share ? gradient() : entries(map)));
  }

  function gradient() {
    const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${report.ramp(share).join(" ")})`);
    const bar = report.el("div", { class: "ramp", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    return [report.el("h2", {}, "Confidence"), bar, report.el("div", { class: "ends" }, report.el("span", {}, "0 %"), report.el("span", {}, "100 %"))];
  }

  function entries(map) {
    const { points, kind } = map;
    const counts = new Map();
    for (let i = 0; i < points.count; i++) counts.set(kind.of(i), (counts.get(kind.of(i)) ?? 0) + 1);
    const shown = kind.ids.slice(0, LEGEND);
    const choose = (event, id) => {
      const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
      for (const button of map.legend.querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
      event.currentTarget.setAttribute("aria-pressed", String(on));
      map.chosen.replaceChildren();
      map.only = points.lit = on ? Uint8Array.from({ length: points.count }, (_, i) => Number(kind.of(i) === id)) : null;
      map.moved();
    };
    return [
      report.el("h2", {}, kind.text),
      report.el("ul", {}, shown.map((id) => report.el("li", {}, report.el("button", {
        type: "button", "aria-pressed": "false", onclick: (event) => choose(event, id) },
      report.sign(id), report.text(kind.name(id)), report.el("span", { class: "number" }, (counts.get(id) ?? 0).toLocaleString("en")))))),
      kind.ids.length > report.HUES && report.el("p", { class: "hint" }, `${report.HUES} hues repeat: click an entry, or point at a dot.`),
      kind.ids.length > LEGEND && report.el("p", { class: "hint" }, `${LEGEND} of ${kind.ids.length.toLocaleString("en")} are listed.`),
    ].filter(Boolean);
  }

  function draw(map) {
    const { points, canvas } = map;
    if (!points.pixels) return;
    points.draw();
    const { context, ratio } = points;
    map.pictured = points.zoom > 2 || points.count <= PICTURES ? points.visible(PICTURES) : null;
    if (map.pictured) {
      const side = 36 * ratio;
      for (const image of map.pictured) {
        const [x, y] = points.toScreen(image);
            const picture = thumb(map, image);
        if (!picture) continue;
        context.drawImage(picture, x - side / 2, y - side / 2, side, side);
        context.lineWidth = 2 * ratio;
        context.strokeStyle = `#${(points.colors[image] & 0xffffff).toString(16).padStart(6, "0").match(/../g).reverse().join("")}`;
        context.strokeRect(x - side / 2, y - side / 2, side, side);
      }
    }
    if (map.polygon) {
      context.beginPath();
      map.polygon.forEach(([x, y]) => context.lineTo(x, y));
      context.closePath();
      context.fillStyle = report.dark() ? "#7aa2ff30" : "#2457c520";
      context.fill();
      context.lineWidth = 1.5 * ratio;
      context.strokeStyle = report.dark() ? "#8fb2ff" : "#2457c5";
      context.stroke();
    }
    canvas.dataset.drawn = Number(canvas.dataset.drawn ?? 0) + 1;
  }

  // Canvas with a thumbnail, or null while it is not there yet.
  function thumb(map, image) {
    if (!map.loaded.has(image)) {
      if (map.loaded.size > 4000) map.loaded.clear();
      const entry = { ready: false };
      map.loaded.set(image, entry);
      entry.canvas = report.thumb(image, () => { entry.ready = true; if (!map.signal.aborted) map.moved(); });
    }
    const entry = map.loaded.get(image);
    return entry.ready ? entry.canvas : null;
  }
})();
