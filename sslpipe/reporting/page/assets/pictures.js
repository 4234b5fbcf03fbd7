"use strict";
// Thumbnails, each cut out of its sprite sheet once: a sheet of 2,048 px takes 16 MB while it is decoded.

(() => {
  const sheets = new Map();

  function sheet(number) {
    if (!sheets.has(number)) {
      const { extension } = report.summary.pictures;
      const image = new Image();
      const entry = { image, queue: [], ready: false };
      image.src = `sprites/${String(number).padStart(4, "0")}.${extension.replace(/^\./, "")}`;
      entry.decoded = image.decode().then(() => (entry.ready = true), () => (entry.ready = false));
      sheets.set(number, entry);
    }
    return sheets.get(number);
  }

  async function draw(number) {
    const entry = sheet(number);
    await entry.decoded;
    const { side, columns, perSheet } = report.summary.pictures;
    for (const { canvas, index, done } of entry.queue.splice(0)) {
      const place = index % perSheet;
      const [x, y] = [(place % columns) * side, Math.floor(place / columns) * side];
      if (entry.ready) canvas.getContext("2d").drawImage(entry.image, x, y, side, side, 0, 0, side, side);
      else canvas.classList.add("missing");
      done?.();
    }
  }

  /* A thumbnail; `done` is called when it has its pixels. */
  report.thumb = (index, done) => {
    if (report.summary.single) {
      const source = report.parts.get("pictures")[index];
      return report.el(source ? "img" : "span", { class: "thumb missing", alt: "", src: source });
    }
    const { side, perSheet } = report.summary.pictures;
    const canvas = report.el("canvas", { class: "thumb", width: side, height: side, "aria-hidden": "true" });
    const entry = sheet(Math.floor(index / perSheet));
    entry.queue.push({ canvas, index, done });
    if (entry.queue.length === 1) draw(Math.floor(index / perSheet));
    return canvas;
  };

  report.hasPicture = (index) => !report.summary.single || index in report.parts.get("pictures");

  /* Address of the image itself, or null. A byte of a name that is not UTF-8 is a lone surrogate, as in Python. */
  report.original = (index) => {
    const { originals } = report.summary;
    const name = report.images.names[index];
    if (originals === null || !name) return null;
    const encode = (word) => Array.from(word, (c) => {
      const code = c.codePointAt(0);
      if (code >= 0xdc80 && code <= 0xdcff) return `%${(code - 0xdc00).toString(16)}`;
      return code >= 0xd800 && code <= 0xdfff ? "%EF%BF%BD" : encodeURIComponent(c);
    }).join("");
    return originals + (originals.endsWith("/") ? "" : "/") + name.split("/").map(encode).join("/");
  };

  /* A button with a thumbnail, which opens the image; `list`: the images among which one turns the pages there. */
  report.picture = (index, { list = [index], caption = null, title = null } = {}) => {
    const what = [report.name(index), caption, title].filter(Boolean).join(", ");
    return report.el("button", {
      type: "button", class: "picture", title: what, "aria-label": what, "data-image": index,
      onclick: () => report.open(index, list),
    }, report.thumb(index), caption !== null && report.text(caption, { class: "caption" }));
  };
})();
