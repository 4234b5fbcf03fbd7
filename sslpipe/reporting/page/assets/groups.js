"use strict";
// All groups of a model: cards with their most confident images, or a line of prototypes each.

(() => {
  const state = { sort: "order" };
  const SORTS = [["order", "Linked groups side by side"], ["size", "Largest first"], ["small", "Smallest first"],
    ["purity", "Least pure first"]];

  report.views.groups = async ([name, id], signal) => {
    const entry = report.chosen(name ?? "");
    const model = await report.model(entry);
    if (signal.aborted) return null;
    if (id !== undefined && id !== "prototypes" && model.groups.has(Number(id))) return report.views.group(model, Number(id));
    const prototypes = id === "prototypes";
    const list = report.el("div", { class: prototypes ? "rows" : "cards" });
    const draw = () => list.replaceChildren(...sorted(model).map((group) => (prototypes ? row : card)(model, group)));
    draw();
    const pure = model.order.some((group) => model.groups.get(group).purity !== null);
    const word = entry.kind === "classes" ? "classes" : "groups";
    return [
      report.el("h1", {}, entry.kind === "classes" ? "Classes" : "Groups"),
      report.el("div", { class: "tools" },
        report.modelChoice(entry, (other) => (location.hash = report.address("groups", other, ...(prototypes ? ["prototypes"] : [])))),
        report.select("Order", SORTS.filter(([key]) => key !== "purity" || pure), state.sort, (value) => { state.sort = value; draw(); }),
        report.el("div", { class: "either" },
          report.el("a", { href: report.address("groups", entry.name), "aria-current": prototypes ? null : "true" }, "Cards"),
          report.el("a", { href: report.address("groups", entry.name, "prototypes"), "aria-current": prototypes ? "true" : null }, "Prototypes"))),
      report.el("p", { class: "hint" },
        `${report.count(model.order.length, entry.kind === "classes" ? "class" : "group", word)} of ` +
        `${report.count(report.images.count, "image")} by `, report.text(entry.name), ` (${entry.method}). `,
        entry.own && `They are merged from its own ${entry.own} (report.groups). `,
        model.named && entry.kind === "groups" ? "Names are those of the classes in the best one-to-one match; below them are the most frequent labels. " : "",
        "The most confident images stand for a group; a click shows an image large.",
        report.summary.single && " This file holds the groups alone: map, scores, doubts and all images are in the report itself."),
      list,
    ];
  };

  function sorted(model) {
    const groups = model.order.map((id) => model.groups.get(id));
    const by = { size: (a, b) => b.size - a.size, small: (a, b) => a.size - b.size, purity: (a, b) => (a.purity ?? 2) - (b.purity ?? 2) };
    return state.sort in by ? groups.sort(by[state.sort]) : groups;
  }

  report.groupFacts = (group) => `${report.count(group.size, "image")} · ${report.percent(group.share)}`;

  /* The most frequent labels of a group's images, and a line where its name is not the first of them. */
  report.mixture = (model, group) => {
    if (!group.mix.length) return group.size > 0 && model.named && report.el("p", { class: "hint" }, "no label is known");
    const { classes } = report.summary;
    const parts = group.mix.flatMap(([id, share], i) => [i ? ", " : "", report.el("span", { class: "part" }, report.text(classes[id]), `\u00a0${report.percent(share)}`)]);
    const id = model.classOf(group.id);
    return [
      report.el("p", { class: "hint mix" }, parts, group.known < group.size && ` of ${group.known.toLocaleString("en")} with a label`),
      id >= 0 && id !== group.mix[0][0] && report.el("p", { class: "hint other" }, model.entry.kind === "classes"
        ? ["predicted as ", report.text(classes[id]), ", labelled most often as ", report.text(classes[group.mix[0][0]])]
        : ["named ", report.text(classes[id]), " by the one-to-one match"]),
    ];
  };

  const PARTS = 8;

  /* The model's own groups that a merged one consists of, the largest first. */
  report.consists = (model, group) => group.parts && report.el("p", { class: "hint parts" },
    `Merged from ${report.count(group.parts.length, "group")}: `,
    group.parts.slice(0, PARTS).map(([id, size], i) => `${id}\u00a0(${i ? size.toLocaleString("en") : report.count(size, "image")})`).join(", "),
    group.parts.length > PARTS && ` and ${group.parts.length - PARTS} more`);

  const title = (model, group) => [report.text(model.groupName(group.id)),
    group.name !== null && model.entry.kind === "groups" && report.el("span", { class: "id" }, `group ${group.id}`)];

  const link = (model, group) =>
    report.el("a", { href: report.address("groups", model.entry.name, String(group.id)) }, ...title(model, group));

  const seen = (indices) => indices.filter(report.hasPicture);

  function card(model, group) {
    const strip = report.el("div", { class: "strip" });
    const prototypes = seen(group.prototypes);
    const label = `Prototypes of ${report.shown(model.groupName(group.id))}`;
    report.lazy(strip, () => prototypes.length
      ? report.grid(prototypes, { label, columns: 6, limit: 12 })
      : report.el("p", { class: "hint empty" }, group.size ? "No pictures here." : "Empty: no image has this group as its most probable one."));
    return report.el("article", { class: "card" },
      report.el("h2", {}, link(model, group)),
      report.el("p", { class: "hint" }, report.groupFacts(group)), report.consists(model, group), report.mixture(model, group),
      share(group), strip);
  }

  function share(group) {
    const bar = report.el("div", { class: "share", "aria-hidden": "true" }, report.el("div"));
    bar.firstChild.style.width = `${100 * group.share}%`;
    return bar;
  }

  function row(model, group) {
    const strip = report.el("div", { class: "line" });
    const prototypes = seen(group.prototypes);
    const label = `Prototypes of ${report.shown(model.groupName(group.id))}`;
    report.lazy(strip, () => prototypes.length ? report.grid(prototypes, { label, columns: 10, limit: 10 })
      : report.el("p", { class: "hint empty" }, "Empty"));
    return report.el("article", { class: "row" },
      report.el("div", {}, report.el("h2", {}, link(model, group)), report.el("p", { class: "hint" }, report.groupFacts(group)),
        report.consists(model, group), report.mixture(model, group)), strip);
  }
})();
