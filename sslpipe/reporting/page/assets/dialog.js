"use strict";
// One image, large, with what is known about it, what each model says, and its neighbours.

(() => {
  const NEIGHBORS = 24;
  let [opened, request] = [null, 0];

  const dialog = () => document.getElementById("image");

  /* Opens the dialog; with `list`, the buttons "previous" and "next" go through these images. */
  report.open = async (image, list = [image]) => {
    const box = dialog();
    opened = { image, list };
    const place = list.indexOf(image);
    const turn = (by) => list[place + by] !== undefined && report.open(list[place + by], list);
    const hadFocus = box.contains(document.activeElement) ? document.activeElement.dataset.turn : "1";
    const answers = report.el("div", { class: "answers" });
    const neighbors = report.el("div", { class: "neighbors" });
    const turning = list.length > 1 && report.el("div", { class: "turning" },
      report.button("‹", () => turn(-1), { "aria-label": "Previous image", "data-turn": "-1", disabled: place <= 0 }),
      report.el("span", { class: "hint" }, `${(place + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`),
      report.button("›", () => turn(1), { "aria-label": "Next image", "data-turn": "1", disabled: place === list.length - 1 }));
    box.replaceChildren(
      report.el("div", { class: "bar" }, turning || report.el("span"),
        report.button("✕", () => box.close(), { class: "quiet", "aria-label": "Close" })),
      report.el("div", { class: "looked-at" }, large(image),
        report.el("div", { class: "known" }, heading(image), facts(image), answers, neighbors)));
    if (!box.open) {
      box.showModal();
      box.addEventListener("keydown", keys);
    }
    (box.querySelector(`[data-turn="${hadFocus}"]:enabled`) ?? box).focus();
    box.scrollTop = 0;
    const mine = ++request;
    try {
      const models = await Promise.all(report.summary.models.map(report.model));
      if (mine === request) answers.replaceChildren(...saying(image, models));
      if (!report.has("neighbors") || report.summary.single) return;
      const near = await report.load("neighbors");
      if (mine === request) neighbors.replaceChildren(...nearest(image, near));
    } catch (error) {
      answers.append(report.el("p", { class: "wrong" }, error.message));
    }
  };

  function keys(event) {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key) || event.target.closest(".grid")) return;
    dialog().querySelector(`[data-turn="${event.key === "ArrowLeft" ? -1 : 1}"]:enabled`)?.click();
    event.preventDefault();
  }

  function large(image) {
    const box = report.el("div", { class: "large" });
    const address = report.original(image);
    const small = (thumb) => {
      thumb.classList.add("pixels");
      box.replaceChildren(thumb, report.el("p", { class: "hint" }, report.summary.single || address === null
        ? "Thumbnail, enlarged." : "Thumbnail, enlarged: the browser cannot show the file itself."));
    };
    if (address === null) {
      small(report.thumb(image));
      return box;
    }
    const picture = report.el("img", {
      src: address, alt: "",
      onload: () => picture.classList.toggle("pixels", picture.naturalWidth < 200),
      onerror: () => small(report.thumb(image)),
    });
    box.append(picture);
    return box;
  }

  function heading(image) {
    const name = report.images.names[image];
    return report.el("div", { class: "heading" },
      report.el("h2", { id: "image-name" }, report.text(name || `image ${image}`)),
      name && report.button("Copy name", async (event) => {
        const button = event.currentTarget;
        button.textContent = (await report.copy(name)) ? "Copied" : "Not copied";
      }));
  }

  function facts(image) {
    const { split, label, given } = report.images;
    const rows = [["Split", report.splits[split[image]]]];
    if (report.summary.classes) {
      const known = label[image] >= 0;
      const used = given[image] ? " (given for training)" : report.images.anyGiven ? " (not given for training)" : "";
      rows.push(["Label", [report.text(report.className(label[image])), known ? used : ""]]);
    }
    return report.el("dl", { class: "facts" }, rows.flatMap(([key, value]) =>
      [report.el("dt", {}, key), report.el("dd", {}, ...[value].flat())]));
  }

  function saying(image, models) {
    const label = report.images.label[image];
    const row = (model) => {
      const [group, second] = [model.group[image], model.second[image]];
      const [sure, between] = [model.confidence[image] / 255, (model.confidence[image] - model.margin[image]) / 255];
      const wrong = label >= 0 && model.named && model.classOf(group) !== label;
      const link = report.el("a", {
        href: report.address("groups", model.entry.name, String(group)), onclick: () => dialog().close(),
      }, report.text(model.groupName(group)));
      return report.el("tr", {},
        report.el("th", { scope: "row" }, report.text(model.entry.name)),
        report.el("td", {}, link, wrong && report.el("span", { class: "badge warn" }, "differs from the label"),
          report.mixture(model, model.groups.get(group))),
        report.el("td", { class: "number" }, report.percent(sure)),
        report.el("td", {}, report.text(model.groupName(second)), ` ${report.percent(Math.max(0, between))}`));
    };
    return models.length === 0 ? [] : [
      report.el("h3", {}, models.length === 1 ? "The model's answer" : "Each model's answer"),
      report.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Answers of the models" },
        report.el("table", {},
          report.el("thead", {}, report.el("tr", {}, ["Model", "Group", "Confidence", "Second"].map((text, column) =>
            report.el("th", { scope: "col", class: column === 2 ? "number" : null }, text)))),
          report.el("tbody", {}, models.map(row)))),
    ];
  }

  function nearest(image, near) {
    near.decoded ??= { index: report.array(near.index, Uint32Array), similarity: report.array(near.similarity, Uint8Array) };
    const count = Math.min(near.k, NEIGHBORS);
    const start = image * near.k;
    const list = [...near.decoded.index.subarray(start, start + count)];
    const similarity = (other, place) => (near.decoded.similarity[start + place] / 255).toFixed(2);
    if (!list.length) return [];
    return [
      report.el("h3", {}, "Nearest images"),
      report.el("p", { class: "hint" }, "By cosine similarity of the features; a click goes on from there."),
      report.grid(list, { label: "Nearest images", size: 76, caption: similarity }),
    ];
  }
})();
