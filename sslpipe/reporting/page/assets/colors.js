"use strict";
// Colours of groups, classes and shares, for a dark and a light page; with more than 12 groups the hues repeat.

(() => {
  const LIGHT = ["#2f5fc4", "#c75a00", "#00857a", "#c2378f", "#8f7000", "#7a4fd0", "#3f8f2e", "#c92a3c", "#1f86b5", "#7d4e34", "#cf5f83", "#5d6b7c"];
  const DARK = ["#7aa2ff", "#ff9d4d", "#33c7b6", "#f27cc4", "#d9bd3f", "#b696ff", "#7ed36a", "#ff7a85", "#6cc6f2", "#c99a7d", "#ffa8c2", "#a9b6c6"];
  const ENDS = { light: ["#c75a00", "#9aa0a8", "#2f5fc4"], dark: ["#ff9d4d", "#7d8590", "#7aa2ff"] };
  report.HUES = LIGHT.length;
  report.SHAPES = ["circle", "square", "triangle", "diamond"];

  report.hue = (id) => (report.dark() ? DARK : LIGHT)[id % LIGHT.length];
  // With a shape as well, 48 are told apart, and neighbours in the list differ in both.
  report.shape = (id) => (id + Math.floor(id / LIGHT.length)) % report.SHAPES.length;

  const bytes = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

  /* From 0 (orange) through ½ (grey) to 1 (blue), [r, g, b]. */
  report.ramp = (share) => {
    const ends = ENDS[report.dark() ? "dark" : "light"].map(bytes);
    const [from, to, part] = share < 0.5 ? [ends[0], ends[1], 2 * share] : [ends[1], ends[2], 2 * share - 1];
    return from.map((value, i) => Math.round(value + part * (to[i] - value)));
  };

  /* One number for a pixel of ImageData, of "#rrggbb" or [r, g, b]. */
  report.pixel = (color) => {
    const [r, g, b] = typeof color === "string" ? bytes(color) : color;
    return (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  };
  report.ground = () => (report.dark() ? "#181b20" : "#ffffff");
  report.faint = () => (report.dark() ? "#33383f" : "#dfe1e4");

  /* Kinds of colouring of the map: {key, text, of: image → number, names: number → text | null}. */
  report.colorings = (model) => {
    const { split, label } = report.images;
    const found = [];
    if (model) found.push({ key: "group", text: "Group", of: (image) => model.group[image], name: model.groupName, ids: model.order });
    if (report.summary.classes) {
      found.push({ key: "class", text: "Label", of: (image) => label[image], name: report.className,
        ids: [...report.summary.classes.keys(), ...(label.includes(-1) ? [-1] : [])] });
    }
    if (model) found.push({ key: "confidence", text: "Confidence", share: (image) => model.confidence[image] / 255 });
    found.push({ key: "split", text: "Split", of: (image) => split[image], name: (id) => report.splits[id], ids: [...new Set(split)].sort() });
    return found;
  };

  /* SVG of a point as the map draws it. */
  report.sign = (id) => {
    const fill = id < 0 ? "currentColor" : report.hue(id);
    const shapes = {
      circle: ["circle", { cx: 6, cy: 6, r: 5 }], square: ["rect", { x: 1.5, y: 1.5, width: 9, height: 9 }],
      triangle: ["path", { d: "M6 1 11 11H1Z" }], diamond: ["path", { d: "M6 .5 11.5 6 6 11.5.5 6Z" }],
    };
    const [tag, attributes] = shapes[report.SHAPES[id < 0 ? 0 : report.shape(id)]];
    return report.svg("svg", { viewBox: "0 0 12 12", class: "sign", "aria-hidden": "true" }, report.svg(tag, { ...attributes, fill }));
  };
})();
