"use strict";
// Duplicates, and labels that neighbours and model doubt: each as pictures, and as a list to take along.

(() => {
  const STEP = 60;

  report.views.doubts = async (_, signal) => {
    const { duplicates, labels, how } = await report.load("doubts");
    if (signal.aborted) return null;
    return [
      report.el("h1", {}, "Doubts"),
      report.el("section", {}, report.el("h2", {}, `Duplicates and near duplicates (${duplicates.length.toLocaleString("en")})`),
        report.el("p", { class: "hint" }, report.shown(how.duplicates)),
        duplicates.length > 0 ? copies(duplicates) : report.el("p", {}, "None found.")),
      !labels && report.summary.classes && report.el("section", {}, report.el("h2", {}, "Doubtful labels"),
        report.el("p", { class: "hint" }, report.shown(how.labels))),
      labels && report.el("section", {}, report.el("h2", {}, `Doubtful labels (${labels.length.toLocaleString("en")})`),
        report.el("p", { class: "hint" }, report.shown(how.labels)),
        labels.length > 0 ? doubtful(labels) : report.el("p", {}, "None found.")),
    ];
  };

  const across = (found) => new Set(found.images.map((image) => report.images.split[image])).size > 1;

  function copies(duplicates) {
    // Across splits first, then those whose labels differ, then the most alike.
    const list = [...duplicates].sort((a, b) => across(b) - across(a) || b.conflict - a.conflict || b.similarity - a.similarity);
    const text = () => ({ text: `similarity\tfiles\n${list.map((found) =>
      [found.similarity.toFixed(4), ...found.images.map((image) => report.line(report.images.names[image]))].join("\t")).join("\n")}\n` });
    const state = { only: "" };
    const box = report.el("div");
    const draw = () => box.replaceChildren(more(list.filter((found) => state.only === "" || (state.only === "across" ? across(found) : found.conflict)), copy));
    draw();
    return [
      report.el("div", { class: "tools" }, report.select("Show", [["", "All"], ["across", "Across splits"], ["conflict", "With different labels"]], "",
        (value) => { state.only = value; draw(); }), report.taking(text, "duplicates.txt", "as a list")),
      box,
    ];
  }

  function copy(found) {
    return report.el("article", { class: "doubt" },
      report.el("div", { class: "pictures" }, found.images.slice(0, 6).map((image) => report.picture(image, { list: found.images, caption: under(image) }))),
      report.el("p", {}, `Similarity ${found.similarity.toFixed(3)}`, found.images.length > 6 && `, ${found.images.length} images`,
        across(found) && report.el("span", { class: "badge warn" }, [...new Set(found.images.map((image) => report.splits[report.images.split[image]]))].join(" + ")),
        found.conflict && report.el("span", { class: "badge bad" }, "labels differ")));
  }

  const under = (image) => `${report.splits[report.images.split[image]]}${report.images.label[image] >= 0 ? ` · ${report.shown(report.className(report.images.label[image]))}` : ""}`;

  function doubtful(labels) {
    const list = [...labels].sort((a, b) => b.score - a.score);
    const images = list.map((found) => found.image);
    const text = () => ({ text: `score\tgiven\tsuggested\tfile\n${list.map((found) => [found.score.toFixed(4), report.line(report.className(found.given)),
      report.line(report.className(found.suggested)), report.line(report.images.names[found.image])].join("\t")).join("\n")}\n` });
    const card = (found) => report.el("article", { class: "doubt label" },
      report.picture(found.image, { list: images, title: "doubtful label" }),
      report.el("dl", {}, report.el("dt", {}, "Given"), report.el("dd", {}, report.text(report.className(found.given))),
        report.el("dt", {}, "Suggested"), report.el("dd", {}, report.el("strong", {}, report.text(report.className(found.suggested)))),
        report.el("dt", {}, "Score"), report.el("dd", {}, found.score.toFixed(2))));
    return [report.el("div", { class: "tools" }, report.taking(text, "doubtful-labels.txt", "as a list")), more(list, card)];
  }

  /* The first of a list, with a button for more. */
  function more(list, card) {
    const box = report.el("div", { class: "doubts" });
    const button = report.button("", () => {
      const first = box.children.length;
      add();
      box.children[first]?.querySelector("button")?.focus();
    });
    const add = () => {
      box.append(...list.slice(box.children.length, box.children.length + STEP).map(card));
      const left = list.length - box.children.length;
      button.hidden = left === 0;
      button.textContent = `Show ${Math.min(left, STEP)} more of ${left.toLocaleString("en")}`;
    };
    add();
    return report.el("div", {}, list.length === 0 && report.el("p", {}, "None."), box, button);
  }
})();
