"use strict";
// The table of models, and for one of them: sizes of groups, confusion, classes, calibration.

(() => {
  report.views.scores = async ([name], signal) => {
    const { table, labelled, protocol, seed, images } = report.summary;
    const entry = report.chosen(name ?? "");
    const model = await report.model(entry);
    if (signal.aborted) return null;
    const chosen = report.el("div");
    const counts = [["train", images.train], ["held out", images.held_out], ["test", images.test]]
      .filter(([, count]) => count > 0).map(([split, count]) => `${count.toLocaleString("en")} ${split}`).join(", ");
    return [
      report.el("h1", {}, "Scores"),
      report.el("p", { class: "hint" }, [`Images: ${counts}`, `protocol ${report.shown(protocol)}`, `seed ${seed}`, labelled && report.shown(labelled)]
        .filter(Boolean).join(" · ")),
      report.el("div", { class: "tools" }, report.modelChoice(entry, (other) => (location.hash = report.address("scores", other)))),
      !model.confusion && report.el("p", { class: "hint" },
        "Confusion, metrics of classes and calibration are left out: no label of an evaluated image is known."),
      report.el("div", { class: "panels" },
        table.rows.length > 0 && report.el("section", { class: "models" }, report.el("h2", {}, "Models"),
          report.table(table.columns, table.rows, "Models", { sortable: true, decimals: table.decimals })),
        model.confusion && confusion(model, chosen),
        report.el("section", { class: "panel" }, report.el("h2", {}, entry.kind === "classes" ? "Images predicted, by class" : "Sizes of groups"), report.sizes(model)),
        model.calibration && report.el("section", { class: "panel" }, report.el("h2", {}, "Reliability"),
          report.el("p", { class: "hint" }, `Accuracy over confidence, darker: more images. Expected calibration error ${report.number(model.calibration.ece)}.`),
          report.reliability(model.calibration)),
        model.perClass && classes(model.perClass)),
      chosen,
    ];
  };

  const classes = (rows) => report.el("section", { class: "panel" }, report.el("h2", {}, "Classes"),
    report.table(["Class", "Images", "Precision", "Recall", "F1"],
      rows.map((row) => [row.name, row.images, row.precision, row.recall, row.f1]), "Classes", { sortable: true, decimals: [null, null, 3, 3, 3] }));

  const LARGE = 30;

  function confusion(model, chosen) {
    const { rows, columns, counts, split } = model.confusion;
    const open = (row, column) => {
      const list = cell(model, row, column);
      chosen.replaceChildren(report.selection([report.text(rows[row]), " as ", report.text(columns[column])], list,
        { close: () => chosen.replaceChildren(), note: list.length === counts[row][column] ? null
          : `The matrix counts ${counts[row][column]}; those found by label and prediction are shown.` }));
      chosen.querySelector("h2").focus();
    };
    const pairs = counts.flatMap((line, row) => line.map((count, column) => ({ row, column, count })))
      .filter(({ row, column, count }) => count > 0 && rows[row] !== columns[column]).sort((a, b) => b.count - a.count).slice(0, 12);
    return report.el("section", { class: "matrix-panel" },
      report.el("h2", {}, "Confusion"),
      report.el("p", { class: "hint" }, `Rows: labels; columns: predictions; images of ${report.shown(split)}. A click lists the images.`),
      rows.length * columns.length <= LARGE * LARGE ? matrix(model.confusion, open) : picture(model.confusion, open),
      pairs.length > 0 && report.el("h3", {}, "Most frequent confusions"),
      pairs.length > 0 && report.el("ul", { class: "pairs" }, pairs.map(({ row, column, count }) => report.el("li", {},
        report.el("button", { type: "button", onclick: () => open(row, column) },
          report.text(rows[row]), " as ", report.text(columns[column]), report.el("span", { class: "number" }, String(count)))))));
  }

  // Images of the split with the label of the row and the prediction of the column.
  function cell(model, row, column) {
    const { rows, outputs, split } = model.confusion;
    const classes = report.summary.classes ?? [];
    const which = report.splits.indexOf(split.replace("_", " "));
    const label = classes.indexOf(rows[row]);
    const found = [];
    for (let image = 0; image < report.images.count; image++) {
      if (report.images.label[image] === label && model.group[image] === outputs[column] && (which < 0 || report.images.split[image] === which)) found.push(image);
    }
    return found;
  }

  const level = (line, count) => (count === 0 ? 0 : count / Math.max(1, line.reduce((sum, value) => sum + value, 0)));

  function matrix({ rows, columns, counts }, open) {
    const table = report.el("table", { class: "matrix" },
      report.el("thead", {}, report.el("tr", {}, report.el("td"), columns.map((name) => report.el("th", { scope: "col" }, report.el("span", {}, report.text(name)))))),
      report.el("tbody", {}, counts.map((line, row) => report.el("tr", {}, report.el("th", { scope: "row" }, report.text(rows[row])),
        line.map((count, column) => {
          const share = level(line, count);
          const button = report.el("button", { type: "button", disabled: count === 0, tabindex: "-1", "data-row": row, "data-column": column,
            class: share > 0.5 ? "full" : null, "aria-label": `${report.shown(rows[row])} as ${report.shown(columns[column])}: ${count}`, onclick: () => open(row, column) },
          count === 0 ? "·" : count.toLocaleString("en"));
          button.style.setProperty("--share", `${Math.round(100 * Math.sqrt(share))}%`);
          return report.el("td", {}, button);
        })))));
    roving(table);
    return report.el("div", { class: "wide" }, table);
  }

  function roving(table) {
    const first = table.querySelector("button:enabled");
    if (first) first.tabIndex = 0;
    table.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      let [row, column] = [Number(event.target.dataset.row), Number(event.target.dataset.column)];
      for (;;) { // over the cells without images
        [row, column] = [row + step[0], column + step[1]];
        const next = table.querySelector(`[data-row="${row}"][data-column="${column}"]`);
        if (!next) return;
        if (next.disabled) continue;
        event.target.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
        return;
      }
    });
  }

  // With many classes: a pixel a cell.
  function picture({ rows, columns, counts }, open) {
    const canvas = report.el("canvas", { class: "heat", width: columns.length, height: rows.length, role: "img",
      "aria-label": `Confusion of ${rows.length} classes; the most frequent confusions are listed below` });
    const said = report.el("p", { class: "hint" }, " ");
    const draw = () => {
      const context = canvas.getContext("2d");
      const image = context.createImageData(columns.length, rows.length);
      const [from, to] = report.dark() ? [[27, 30, 36], [143, 178, 255]] : [[255, 255, 255], [36, 87, 197]];
      counts.forEach((line, row) => line.forEach((count, column) => {
        const share = Math.sqrt(level(line, count));
        image.data.set([...from.map((value, i) => value + share * (to[i] - value)), 255], 4 * (row * columns.length + column));
      }));
      context.putImageData(image, 0, 0);
    };
    draw();
    addEventListener("sslpipe-theme", draw, { signal: report.signal });
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (offset, size, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / size) * count)));
      return [place(event.clientY - box.top, box.height, rows.length), place(event.clientX - box.left, box.width, columns.length)];
    };
    canvas.addEventListener("pointermove", (event) => {
      const [row, column] = at(event);
      said.replaceChildren(report.text(rows[row]), " as ", report.text(columns[column]), `: ${counts[row][column]}`);
    });
    canvas.addEventListener("click", (event) => {
      const [row, column] = at(event);
      if (counts[row][column] > 0) open(row, column);
    });
    return report.el("div", {}, canvas, said);
  }
})();
