"use strict";
// Charts as SVG: lines over steps, reliability, sizes; and tables that sort.

(() => {
  const NS = "http://www.w3.org/2000/svg"; // a name, not an address to load

  report.svg = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
    element.append(...children.flat(Infinity).filter(Boolean));
    return element;
  };
  const text = (x, y, content, attributes = {}) => report.svg("text", { x, y, ...attributes }, String(content));

  /* Two to five round values between two bounds. */
  function ticks(low, high) {
    const rough = (high - low) / 3 || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(value);
    return { values: found, step };
  }
  const short = (value, step) => Math.abs(value) >= 10_000 ? `${+(value / 1000).toPrecision(3)}k` : Math.abs(value) < 1e-3 && value !== 0
    ? value.toExponential(0) : String(+value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9))));

  /* Line through the [x, y] points whose y is not null, such as scores of some epochs only. */
  report.lineChart = (title, points, xName) => {
    const [width, height, left, right, top, bottom] = [300, 150, 44, 12, 10, 22];
    const known = points.filter(([, y]) => y !== null);
    const [xs, ys] = [known.map((point) => point[0]), known.map((point) => point[1])];
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    if (y0 === y1) [y0, y1] = [y0 - Math.abs(y0 || 1) * 0.1, y1 + Math.abs(y1 || 1) * 0.1];
    const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
    const py = (y) => top + (1 - (y - y0) / (y1 - y0)) * (height - top - bottom);
    const path = known.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    const across = ticks(y0, y1);
    const along = ticks(x0, x1);
    const mark = report.svg("circle", { r: 3.5, class: "mark", visibility: "hidden" });
    const lastKnown = known.at(-1);
    const value = report.el("span", { class: "number" }, report.number(lastKnown[1]));
    const chart = report.svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart",
      "aria-label": `${title}: from ${report.number(known[0][1])} to ${report.number(lastKnown[1])}, between ${report.number(Math.min(...ys))} and ${report.number(Math.max(...ys))}` },
    across.values.map((y) => [report.svg("line", { x1: left, x2: width - right, y1: py(y), y2: py(y), class: "rule" }),
      text(left - 6, py(y) + 4, short(y, across.step), { "text-anchor": "end" })]),
    along.values.map((x) => text(px(x), height - 5, short(x, along.step), { "text-anchor": "middle" })),
    report.svg("path", { d: path, class: "line" }),
    known.length < points.length && known.map(([x, y]) => report.svg("circle", { cx: px(x), cy: py(y), r: 1.8, class: "mark" })),
    known.length === 1 && report.svg("circle", { cx: px(xs[0]), cy: py(ys[0]), r: 3, class: "mark" }), mark);
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      const near = known.reduce((best, point) => (Math.abs(px(point[0]) - at) < Math.abs(px(best[0]) - at) ? point : best));
      for (const [key, number] of [["cx", px(near[0])], ["cy", py(near[1])], ["visibility", "visible"]]) mark.setAttribute(key, number);
      value.textContent = `${report.number(near[1])} at ${xName} ${report.number(near[0])}`;
    });
    chart.addEventListener("pointerleave", () => {
      mark.setAttribute("visibility", "hidden");
      value.textContent = report.number(lastKnown[1]);
    });
    return report.el("figure", {}, report.el("figcaption", {}, report.text(title), value), chart);
  };

  /* Accuracy over confidence of bins; the wider a bar's share of images, the darker it is. */
  report.reliability = ({ bins, ece }) => {
    const [side, left, bottom] = [260, 36, 28];
    const p = (value) => left + value * (side - left - 8);
    const q = (value) => 8 + (1 - value) * (side - bottom - 8);
    const most = Math.max(...bins.map((bin) => bin.count), 1);
    const full = bins.filter((bin) => bin.count > 0);
    const rows = full.map((bin) => [`${report.percent(bin.low)} to ${report.percent(bin.high)}`, bin.count, bin.confidence, bin.accuracy]);
    return [
      report.svg("svg", { viewBox: `0 0 ${side} ${side}`, class: "chart square", role: "img",
        "aria-label": `Reliability: accuracy over confidence. Expected calibration error ${report.number(ece)}; the numbers are in the table below.` },
      [0, 0.25, 0.5, 0.75, 1].map((value) => [report.svg("line", { x1: p(0), x2: p(1), y1: q(value), y2: q(value), class: "rule" }),
        text(p(0) - 5, q(value) + 4, value, { "text-anchor": "end" }), text(p(value), side - 12, value, { "text-anchor": "middle" })]),
      full.map((bin) => report.svg("rect", { x: p(bin.low) + 0.5, y: q(bin.accuracy), width: Math.max(1, p(bin.high) - p(bin.low) - 1),
        height: q(0) - q(bin.accuracy), class: "bar", "fill-opacity": (0.3 + 0.7 * Math.sqrt(bin.count / most)).toFixed(2) })),
      report.svg("line", { x1: p(0), y1: q(0), x2: p(1), y2: q(1), class: "diagonal" }),
      full.map((bin) => report.svg("circle", { cx: p(bin.confidence), cy: q(bin.accuracy), r: 3, class: "mark" }))),
      report.el("details", {}, report.el("summary", {}, "Numbers"), report.table(["Confidence", "Images", "Mean confidence", "Accuracy"], rows, "Reliability", { decimals: [null, null, 3, 3] })),
    ];
  };

  /* Columns of the sizes of groups, largest first; each is a link if there are few. */
  report.sizes = (model) => {
    const groups = model.order.map((id) => model.groups.get(id)).sort((a, b) => b.size - a.size);
    const most = Math.max(1, groups[0]?.size ?? 1);
    if (groups.length <= 40) {
      return report.el("ul", { class: "bars" }, groups.map((group) => {
        const bar = report.el("span", { class: "bar", "aria-hidden": "true" });
        bar.style.width = `${(100 * group.size) / most}%`;
        return report.el("li", {}, report.el("a", { href: report.address("groups", model.entry.name, String(group.id)) },
          report.text(model.groupName(group.id))), report.el("span", { class: "track" }, bar),
        report.el("span", { class: "number" }, group.size.toLocaleString("en")));
      }));
    }
    const [width, height] = [600, 140];
    const step = width / groups.length;
    return report.svg("svg", { viewBox: `0 0 ${width} ${height + 16}`, class: "chart whole", role: "img",
      "aria-label": `Sizes of ${groups.length} groups, from ${most} down to ${groups.at(-1).size} images` },
    groups.map((group, i) => report.svg("rect", { x: i * step, y: height - (height * group.size) / most, width: Math.max(step * 0.85, 0.4),
      height: (height * group.size) / most, class: "bar" })),
    text(0, height + 13, most.toLocaleString("en")), text(width, height + 13, groups.at(-1).size.toLocaleString("en"), { "text-anchor": "end" }));
  };

  /* Table with a column of numbers to the right; sortable by a click on a heading. Cells: texts, numbers, null, elements.
     decimals: of each column; without them as report.number has them. */
  report.table = (columns, rows, label, { sortable = false, kind = null, decimals = [] } = {}) => {
    const numeric = columns.map((_, c) => rows.length > 0 && rows.every((row) => row[c] === null || typeof row[c] === "number"));
    const cell = (value, c) => report.el(c === 0 ? "th" : "td", { scope: c === 0 ? "row" : null, class: numeric[c] ? "number" : null },
      value instanceof Node ? value : typeof value === "string" ? report.text(value) : report.number(value, decimals[c]));
    const body = report.el("tbody");
    const fill = (list) => body.replaceChildren(...list.map((row) => report.el("tr", {}, row.map(cell))));
    let order = [null, 1];
    const sort = (event, c) => {
      order = [c, order[0] === c ? -order[1] : numeric[c] ? -1 : 1];
      for (const th of head.children) th.removeAttribute("aria-sort");
      event.currentTarget.parentElement.setAttribute("aria-sort", order[1] > 0 ? "ascending" : "descending");
      const key = (row) => (row[c] instanceof Node ? row[c].textContent : row[c]);
      fill([...rows].sort((a, b) => order[1] * (numeric[c] ? (key(a) ?? -Infinity) - (key(b) ?? -Infinity) : String(key(a)).localeCompare(String(key(b)), "en"))));
    };
    const head = report.el("tr", {}, columns.map((column, c) => report.el("th", { scope: "col", class: numeric[c] ? "number" : null },
      sortable ? report.el("button", { type: "button", class: "sort", onclick: (event) => sort(event, c) }, report.text(column)) : report.text(column))));
    fill(rows);
    return report.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label },
      report.el("table", { class: kind }, report.el("thead", {}, head), body));
  };
})();
