"use strict";
// Settings, where the results came from, and what the report leaves out.

(() => {
  report.views.about = async () => {
    const { settings, lineage, notes, version, seed, protocol, images, size, classes, labelled } = report.summary;
    const box = report.el("div");
    const changed = (row) => shown(row.value) !== shown(row.default);
    const draw = (only) => {
      const blocks = new Map();
      for (const row of settings) if (!only || changed(row)) blocks.set(row.block, [...(blocks.get(row.block) ?? []), row]);
      box.replaceChildren(...[...blocks].map(([block, rows]) => report.el("section", {}, report.el("h3", {}, report.text(block)),
        report.table(["Key", "Value", "Default", "Source"], rows.map((row) =>
          [row.key, changed(row) ? report.el("strong", {}, report.text(shown(row.value))) : shown(row.value), shown(row.default), row.source ?? ""]), `Settings of ${report.shown(block)}`, { kind: "settings" }))));
      if (!blocks.size) box.replaceChildren(report.el("p", {}, "All settings have their defaults."));
    };
    draw(false);
    const facts = [["sslpipe", version], ["Protocol", protocol], ["Seed", seed], ["Image size", `${size} px`],
      ["Images", `${images.train.toLocaleString("en")} train, ${images.held_out.toLocaleString("en")} held out, ${images.test.toLocaleString("en")} test`],
      ["Classes", classes ? classes.length.toLocaleString("en") : "no labels"], labelled ? ["Labelled", labelled] : null].filter(Boolean);
    return [
      report.el("h1", {}, "About"),
      report.el("dl", { class: "facts" }, facts.flatMap(([key, value]) => [report.el("dt", {}, key), report.el("dd", {}, report.text(value))])),
      notes.length > 0 && report.el("section", {}, report.el("h2", {}, "Left out"), report.el("ul", {}, notes.map((note) => report.el("li", {}, report.text(note))))),
      lineage.length > 0 && report.el("section", {}, report.el("h2", {}, "Where it came from"),
        report.el("pre", { tabindex: "0", role: "region", "aria-label": "Where it came from" }, lineage.map(report.shown).join("\n"))),
      settings.length > 0 && report.el("section", {}, report.el("h2", {}, "Settings"),
        report.el("div", { class: "tools" }, report.select("Show", [["", "All"], ["changed", "Other than the default"]], "", (value) => draw(value !== ""))), box),
    ];
  };

  const shown = (value) => (value === null || value === undefined ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value));
})();
