"use strict";
// Settings, where the results came from, and what the report leaves out.

(() => {
  report.views.about = async () => {
    const { settings, lineage, notes, version, seed, protocol, images, size, classes, labelled } = report.summary;
    const box = report.el("div");
    const given = settings.filter((row) => row.source !== "default").length;
    const draw = (only) => {
      const rows = settings.filter((row) => !only || row.source !== "default")
        .map(({ block, key, value, source }) => [block ? `${block}.${key}` : key, shown(value), source]);
      box.replaceChildren(rows.length ? report.table(["Key", "Value", "Source"], rows, "Settings", { kind: "settings" })
        : report.el("p", {}, "No setting is given: all have their defaults."));
    };
    draw(true);
    const facts = [["sslpipe", version], ["Protocol", protocol], ["Seed", seed], ["Image size", `${size} px`],
      ["Images", `${images.train.toLocaleString("en")} train, ${images.held_out.toLocaleString("en")} held out, ${images.test.toLocaleString("en")} test`],
      ["Classes", classes ? classes.length.toLocaleString("en") : "no labels"], labelled ? ["Labelled", labelled] : null].filter(Boolean);
    return [
      report.el("h1", {}, "About"),
      report.el("dl", { class: "facts" }, facts.flatMap(([key, value]) => [report.el("dt", {}, key), report.el("dd", {}, report.text(value))])),
      notes.length > 0 && report.el("section", {}, report.el("h2", {}, "Left out"), report.el("ul", {}, notes.map((note) => report.el("li", {}, report.text(note))))),
      settings.length > 0 && report.el("section", {}, report.el("h2", {}, "Settings"),
        report.el("div", { class: "tools" }, report.select("Show", [["given", `Given (${given.toLocaleString("en")})`], ["", `All (${settings.length.toLocaleString("en")})`]],
          "given", (value) => draw(value !== ""))), box),
      lineage.length > 0 && report.el("section", {}, report.el("h2", {}, "Where it came from"),
        report.lazyDetails(`Files, fingerprints and settings of every stage, ${report.count(lineage.length, "line")}`, () =>
          report.el("pre", { tabindex: "0", role: "region", "aria-label": "Where it came from" }, lineage.map(report.shown).join("\n")))),
    ];
  };

  const shown = (value) => (value === null || value === undefined ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value));
})();
