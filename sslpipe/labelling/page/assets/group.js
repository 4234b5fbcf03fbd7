"use strict";
// One group, or what is set aside: all of its images, marks on them, and what is done with the marked and with the others.

(() => {
  let least = false;  // whether the least typical images come first

  label.views.group = async ([word]) => {
    const aside = word === "aside";
    const id = aside ? -1 : Number(word);
    label.leave(aside ? "aside" : id);
    let [version, asked] = [label.state.version, false];  // the images are at least as new as this version
    let data = await label.get(`group/${encodeURIComponent(word ?? "")}`);
    let labels = new Map();
    const paint = () => {
      grid.grid.cells.forEach((cell, place) => cell.paint(grid.grid.images[place]));
      acting();
    };
    const grid = label.grid([], { label: "Images", size: innerWidth < 760 ? 88 : 112, cell: (image) => cellOf(image) });
    const marks = label.marks(grid, paint);
    const { marked } = marks;

    function cellOf(image) {
      const badge = label.el("span", { class: "of-label" });
      const cell = label.el("button", { type: "button", class: "picture", "data-image": image }, label.thumb(image), badge);
      cell.paint = (shown) => {
        const text = labels.get(shown) ?? null;
        const same = text !== null && text === name();
        badge.textContent = text === null ? "" : same ? "✓" : label.shown(text);
        badge.className = text === null ? "of-label none" : same ? "of-label same" : "of-label";
        cell.setAttribute("aria-pressed", String(marked.has(shown)));
        cell.setAttribute("aria-label", `image ${shown}${text === null ? "" : `, labelled ${label.shown(text)}`}`);
      };
      cell.paint(image);
      return cell;
    }

    const group = () => (aside ? null : label.group(id));
    const name = () => (group() ? label.nameOf(group()) : "");

    /* The images as they will be once all actions are saved. */
    function list() {
      let images = data.images;
      labels = new Map(images.map((image, place) => [image, data.label[place]]));
      for (const action of label.pending(version)) {
        const to = action.do === "move" ? action.group ?? -1 : action.group;
        if (action.do === "move" && to !== id) {
          const gone = new Set(action.images);
          images = images.filter((image) => !gone.has(image));
        } else if (["move", "confirm"].includes(action.do) && to === id) {
          for (const image of action.images) if (labels.has(image)) labels.set(image, name());
        } else if (action.do === "answer" && labels.has(action.image)) labels.set(action.image, action.label);
      }
      return least ? [...images].reverse() : images;
    }

    function draw() {
      const images = list();
      marks.only(images);
      const same = images.length === grid.grid.images.length && images.every((image, place) => image === grid.grid.images[place]);
      if (!same) grid.grid.replace(images);
      facts.replaceChildren(aside ? `${label.count(images.length, "image")}, in no group. Mark them to move them back.`
        : `group ${label.shown(group()?.code ?? word)} · ${label.count(images.length, "image")} · ${[...labels.values()].filter((text) => text !== null).length.toLocaleString("en")} with a label`);
      paint();
    }

    async function update() {
      field?.show();
      if (!aside && group() === null) {
        label.say(`Group ${word} is no longer there.`);
        location.replace("#groups");
        return;
      }
      links();
      draw();
      if (version === label.state.version || asked) return;
      asked = true;
      try {
        const begun = label.state.version;
        data = await label.get(`group/${word}`);
        version = begun;
      } catch {
        asked = false;
        return;  // asked again with the next state
      }
      asked = false;
      if (grid.isConnected) update();
    }

    const facts = label.el("p", { class: "hint" });
    const field = aside ? null : label.nameField(id, { enter: () => grid.grid.focus(grid.grid.current) });
    if (field) {
      field.disabled = label.state.kind !== "groups";
      field.show();
    }

    // Places of the pictures of which at least half is in the window, between the bars.
    const onScreen = () => {
      const [first, end] = grid.grid.between(document.querySelector(".head").getBoundingClientRect().bottom, bar.getBoundingClientRect().top);
      return grid.grid.images.slice(first, end);
    };
    // Of these the ones that get a label now; a picture that is not loaded yet has not been seen.
    const open = () => {
      const loaded = new Set([...grid.grid.cells.values()].filter(({ firstChild: { complete, naturalWidth } }) => complete && naturalWidth > 0)
        .map((cell) => Number(cell.dataset.image)));
      return onScreen().filter((image) => loaded.has(image) && !marked.has(image) && labels.get(image) === null);
    };

    function confirm() {
      const images = open();
      if (name() && images.length) label.act({ do: "confirm", images, group: id });
    }
    function moveTo(to) {
      if (marked.size === 0) return label.say("Mark pictures first: click, drag, or Space.");
      const images = grid.grid.images.filter((image) => marked.has(image));
      marks.clear();
      label.act({ do: "move", images, group: to });
      if (grid.grid.images.length) grid.grid.focus(grid.grid.current);
      return undefined;
    }

    const confirmButton = label.button("", confirm, { class: "main" });
    const chooser = label.chooser({
      title: "Move the marked to a group", placeholder: "move to … (m)", all: true, missing: "no group has this name",
      options: () => label.state.groups.map((one) => ({ name: label.titleOf(one), text: label.choiceOf(one) + (one.id === id ? " (this group)" : ""), value: one.id })),
      take: moveTo, leave: () => grid.grid.focus(grid.grid.current),
    });
    const count = label.el("strong");
    const withMarks = label.el("div", { class: "with-marks" }, count, chooser,
      aside ? null : label.button("Set aside", () => moveTo(null), { title: "They belong to no group (Delete)" }),
      label.button("Clear", marks.clear, { title: "Clear the marks (Esc)" }));
    const bar = label.el("div", { class: "acting" }, aside ? null : confirmButton, withMarks);

    let drawing = 0;
    function soon() {
      cancelAnimationFrame(drawing);
      drawing = requestAnimationFrame(acting);
    }
    /* The bar: what its buttons would do now, and with how many. */
    function acting() {
      withMarks.hidden = marked.size === 0;
      count.textContent = `${marked.size.toLocaleString("en")} marked`;
      if (aside) return;
      const screen = onScreen();
      const [free, at] = [open().length, screen.filter((image) => marked.has(image)).length];
      const other = screen.filter((image) => !marked.has(image) && ![null, name()].includes(labels.get(image) ?? null)).length;
      const but = [at > 0 && `the ${at.toLocaleString("en")} marked`, other > 0 && `${other.toLocaleString("en")} labelled otherwise`].filter(Boolean).join(" and ");
      confirmButton.disabled = !name() || free === 0;
      const quoted = ["‘", label.text(name()), "’"];
      confirmButton.title = name() ? "They belong to this group (Ctrl+Enter)" : "Name the group first";
      if (!name()) confirmButton.replaceChildren("Name the group to label its pictures");
      else if (free === 0) confirmButton.replaceChildren("No picture on this screen is left to label");
      else {
        confirmButton.replaceChildren(`Label the ${label.count(free, "picture")} on this screen as `, ...quoted, but && `, but ${but}`);
        if (free === 1) confirmButton.replaceChildren("Label the one picture left on this screen as ", ...quoted);
      }
    }
    label.whileShown(grid, soon);
    grid.addEventListener("load", soon, true);
    grid.addEventListener("error", soon, true);
    new ResizeObserver(soon).observe(grid);

    const crumbs = label.el("nav", { class: "crumbs", "aria-label": "Groups" });
    function neighbour(by) {
      const all = label.state.groups;
      return all[all.findIndex((one) => one.id === id) + by];
    }
    function links() {
      const link = (by) => {
        const other = aside ? undefined : neighbour(by);
        return other && label.el("a", { href: `#group/${other.id}`, title: by < 0 ? "Previous group ([)" : "Next group (])" },
          by < 0 ? "‹ " : "", label.text(label.titleOf(other)), by > 0 ? " ›" : "");
      };
      const parts = [label.el("a", { href: "#groups" }, "All groups"), label.el("span", { class: "spread" }), link(-1), link(1)].filter(Boolean);
      const key = parts.map((part) => part.outerHTML).join();
      if (crumbs.dataset.key !== key && !crumbs.contains(document.activeElement)) {
        crumbs.dataset.key = key;
        crumbs.replaceChildren(...parts);
      }
    }

    function key(event) {
      const control = event.ctrlKey || event.metaKey;
      const cell = event.target.closest("[data-image]");
      const by = { "[": -1, "]": 1 }[event.key];
      const plain = !event.metaKey && (!event.ctrlKey || event.getModifierState("AltGraph"));
      if (by !== undefined && plain) {
        const other = aside ? undefined : neighbour(by);
        if (other) location.hash = `#group/${other.id}`;
      } else if (control && event.key === "Enter") confirm();
      else if (control && event.key.toLowerCase() === "a") marks.add(onScreen());
      else if (control || event.altKey) return;
      else if (event.key === "Escape") marks.clear();
      else if (event.key === "m" && marked.size > 0) chooser.field.focus();
      else if (event.key === "m") moveTo(null);
      else if (event.key === "Delete" && !aside) moveTo(null);
      else if (event.key === "Enter" && cell) label.showLarge(Number(cell.dataset.image));
      else if (/^Arrow/.test(event.key) && event.target.id === "main") grid.grid.focus(grid.grid.current);
      else return void label.goByKey(event);
      event.preventDefault();
    }

    const order = label.select("Order", [["most", "most typical first"], ["least", "least typical first"]], least ? "least" : "most", (value) => {
      least = value === "least";
      draw();
    });
    links();
    return {
      title: aside ? "Set aside" : `Group ${label.shown(group()?.code ?? word)}`,
      content: [crumbs, label.el("div", { class: "tools group-head" },
        aside ? label.el("h1", {}, "Set aside") : [label.el("h1", { class: "unseen" }, `Group ${label.shown(group()?.code ?? word)}`), field], facts, label.el("span", { class: "spread" }), order), grid, bar],
      update,
      key,
      focus: () => (field && !field.disabled && !name() ? field.focus() : grid.grid.images.length ? grid.grid.focus(0) : document.getElementById("main").focus()),
    };
  };
})();
