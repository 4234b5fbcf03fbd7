"use strict";
// The dialog with all keys.

(() => {
  const KEYS = [
    ["Everywhere", [["Ctrl+Z", "undo"], ["?", "these keys"], ["g · q · r", "groups, questions, run (letters name a class under Questions)"]]],
    ["Groups", [["Enter", "save the name, on to the next group"], ["Shift+Enter · ↑", "the group before"], ["Ctrl+Enter", "save the name, open the group"],
      ["Esc", "take back what is typed"]]],
    ["A group", [["← ↑ → ↓ Home End", "to another picture"], ["Space · click", "mark a picture"], ["Shift with these", "mark all up to there"],
      ["drag", "mark those between"], ["Ctrl+A", "mark all on this screen"], ["Esc", "clear the marks"], ["m", "move the marked to a group"],
      ["Delete", "set the marked aside"], ["Ctrl+Enter", "label the pictures on this screen"], ["Enter", "see a picture large"], ["[ · ]", "previous, next group"]]],
    ["Questions", [["1 … 9", "this class; where a class is called by a digit, that digit"], ["Enter", "the suggested class"], ["a letter", "type a class, also a new one"], ["0 · .", "none of these"],
      ["Space · -", "unsure"], ["Backspace", "undo"]]],
  ];

  label.showKeys = () => {
    const box = document.getElementById("keys");
    box.replaceChildren(
      label.el("div", { class: "bar" }, label.el("h2", { id: "keys-title" }, "Keys"),
        label.button("✕", () => box.close(), { class: "quiet", "aria-label": "Close" })),
      label.el("div", { class: "key-lists" }, KEYS.map(([title, rows]) => label.el("section", {},
        label.el("h3", {}, title),
        label.el("dl", {}, rows.map(([keys, what]) => [label.el("dt", {}, label.el("kbd", {}, keys)), label.el("dd", {}, what)]))))));
    box.showModal();
  };

  /* A picture large, over the page. */
  label.showLarge = (image) => {
    const box = document.getElementById("keys");
    box.replaceChildren(
      label.el("div", { class: "bar" }, label.el("h2", { id: "keys-title" }, `Image ${image}`),
        label.button("✕", () => box.close(), { class: "quiet", "aria-label": "Close" })),
      label.large(image));
    box.showModal();
  };

  label.large = (image) => label.el("img", { class: `large${label.state.side < 24 ? " pixels" : ""}`, src: `image/${image}`, alt: `image ${image}`, draggable: "false" });
  label.thumb = (image, attributes = {}) =>
    label.el("img", { class: `thumb${label.state.side < 24 ? " pixels" : ""}`, src: `thumb/${image}`, alt: "", draggable: "false", ...attributes });

  /* g, q and r go to a view, where letters are not typed. */
  label.goByKey = (event) => {
    const to = { g: "#groups", q: "#questions", r: "#run" }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return false;
    event.preventDefault();
    location.hash = to;
    return true;
  };
})();
