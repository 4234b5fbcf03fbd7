"use strict";
// The history of every stage: a small chart for each column that changes.

(() => {
  const STEPS = ["step", "epoch", "iteration"];

  report.views.training = async (_, signal) => {
    const { stages } = await report.load("training");
    if (signal.aborted) return null;
    return [
      report.el("h1", {}, "Training"),
      report.el("p", { class: "hint" }, stages.some(({ rows }) => rows.length > 1) && "Point at a line for its values; the number beside a name is the last one. ",
        stages.some(({ rows }) => rows.length === 1) && "A stage without epochs has values instead of lines."),
      ...stages.map(stage),
    ];
  };

  function stage({ name, method, columns, rows }) {
    const numbers = columns.map((_, c) => rows.filter((row) => typeof row[c] === "number").length);
    const along = columns.findIndex((column, c) => STEPS.includes(column) && numbers[c] === rows.length && rows.length > 0);
    const x = (row, r) => (along >= 0 ? row[along] : r + 1);
    const fixed = [];
    const charts = [];
    columns.forEach((column, c) => {
      if (STEPS.includes(column) || numbers[c] === 0) return;
      const values = new Set(rows.map((row) => row[c]).filter((value) => value !== null));
      if (values.size === 1 && rows.length > 1) fixed.push(`${report.shown(column)} ${report.number([...values][0])}`);
      else charts.push(report.lineChart(column, rows.map((row, r) => [x(row, r), typeof row[c] === "number" ? row[c] : null]), along >= 0 ? columns[along] : "row"));
    });
    if (rows.length === 1) return once(name, method, columns.map((column, c) => [column, rows[0][c]]));
    const empty = columns.filter((column, c) => numbers[c] === 0).map(report.shown);
    return report.el("section", {},
      heading(name, method),
      report.el("p", { class: "hint" }, [`${report.count(rows.length, "row")} over ${along >= 0 ? columns[along] : "rows"}`, fixed.length && `constant: ${fixed.join(", ")}`,
        empty.length && `without numbers: ${empty.join(", ")}`].filter(Boolean).join(" · ")),
      report.el("div", { class: "charts" }, charts),
      rows.length > 0 && report.lazyDetails("Numbers", () => report.table(columns, rows, `History of ${report.shown(name)}`)));
  }

  // A method without epochs, such as one on stored features, has one row: no line to draw.
  function once(name, method, values) {
    const known = values.filter(([column, value]) => typeof value === "number" && !STEPS.includes(column));
    return report.el("section", {}, heading(name, method),
      report.el("dl", { class: "once" }, known.map(([column, value]) => report.el("div", {},
        report.el("dt", {}, report.text(column)), report.el("dd", { class: "number" }, report.number(value))))));
  }

  const heading = (name, method) => report.el("h2", {}, report.text(name), " ", report.el("span", { class: "id" }, report.text(method ?? "")));

  report.lazyDetails = (title, build) => {
    const box = report.el("details", { ontoggle: () => box.open && box.children.length === 1 && box.append(build()) }, report.el("summary", {}, title));
    return box;
  };
})();
