"use strict";
// One group: its prototypes, the least confident, those between two groups, and all of its images with filters.

(() => {
  report.views.group = (model, id) => {
    const group = model.groups.get(id);
    const place = model.order.indexOf(id);
    const beside = (by, sign) => {
      const other = model.order[place + by];
      return other !== undefined && report.el("a", { href: report.address("groups", model.entry.name, String(other)) },
        by < 0 ? `${sign} ` : "", report.text(model.groupName(other)), by > 0 ? ` ${sign}` : "");
    };
    const sure = (image) => report.percent(model.confidence[image] / 255);
    const between = new Map(group.between);
    return [
      report.el("nav", { class: "crumbs", "aria-label": "Groups" },
        report.el("a", { href: report.address("groups", model.entry.name) }, "All groups"),
        report.el("span", { class: "spread" }), beside(-1, "‹"), beside(1, "›")),
      report.el("h1", {}, report.text(model.groupName(id))),
      report.el("div", {}, report.el("p", { class: "hint" }, group.name !== null && model.entry.kind === "groups" ? `Group ${id} of ` : "By ",
        report.text(model.entry.name), ` · ${report.groupFacts(group)}`),
      report.consists(model, group), report.mixture(model, group)),
      part("Prototypes", "Most confident, and near the centre of the group.", group.prototypes, sure),
      part("Least confident", "In this group, but hardly.", group.least, sure),
      part("Between two groups", "Nearly as probable in the group that is named.", [...between.keys()],
        (image) => report.shown(model.groupName(between.get(image)))),
      report.summary.single ? null : everything(model, id),
    ];
  };

  function part(title, hint, indices, caption) {
    const list = indices.filter(report.hasPicture);
    return list.length > 0 && report.el("section", {},
      report.el("h2", {}, title), report.el("p", { class: "hint" }, hint), report.grid(list, { label: title, size: 92, caption }));
  }

  function everything(model, id) {
    const members = report.members(model, id).sort((a, b) => model.confidence[b] - model.confidence[a] || a - b);
    const { split, label } = report.images;
    const state = { split: "", least: 0, only: "" };
    const found = report.el("div");
    const differs = (image) => label[image] >= 0 && label[image] !== model.classOf(id);
    const draw = () => {
      const list = members.filter((image) => (state.split === "" || split[image] === Number(state.split))
        && 100 * model.confidence[image] <= 255 * state.least && (state.only === "" || differs(image) === (state.only === "differs")));
      found.replaceChildren(
        report.el("p", { class: "hint", role: "status" }, list.length === members.length
          ? `All ${report.count(members.length, "image")}, most confident first.`
          : `${list.length.toLocaleString("en")} of ${report.count(members.length, "image")}, most confident first.`),
        list.length > 0 ? report.taking(() => report.lines(list), "images.txt") : "",
        report.grid(list, { label: "All images" }));
    };
    state.least = 100;
    const bound = report.el("output", {}, "100 %");
    const range = report.el("input", { type: "range", min: "0", max: "100", value: "100", "aria-label": "Highest confidence, percent",
      oninput: () => { state.least = Number(range.value); bound.textContent = `${range.value} %`; draw(); } });
    const splits = [...new Set(split)].sort();
    const choices = [["", "All"], ...splits.map((value) => [value, report.splits[value]])];
    draw();
    return report.el("section", {}, report.el("h2", {}, "All images"),
      report.el("div", { class: "tools" },
        splits.length > 1 && report.select("Split", choices, "", (value) => { state.split = value; draw(); }),
        model.named && report.select("Label", [["", "All"], ["differs", "differs from the group"], ["agrees", "does not differ"]], "",
          (value) => { state.only = value; draw(); }),
        report.el("label", { class: "choice" }, report.el("span", {}, "Confidence at most"), range, bound)),
      found);
  }
})();
