"use strict";
// Thumbnails, each cut out of its sprite sheet once: a sheet of 2,048 px takes 16 MB while it is decoded.

(() => {
  const sheets = new Map();
  let first = null;

  // Pictures of the first page once more on sheets of their own, so that it does not wait for all sheets.
  function placeOf(index) {
    const { perSheet, first: chosen = [] } = report.summary.pictures;
    first ??= new Map(chosen.map((image, place) => [image, place]));
    const [place, kind] = first.has(index) ? [first.get(index), "first-"] : [index, ""];
    return { name: `${kind}${String(Math.floor(place / perSheet)).padStart(4, "0")}`, place: place % perSheet };
  }

  function sheet(name) {
    if (!sheets.has(name)) {
      const image = new Image();
      const entry = { image, queue: [], ready: false };
      image.src = `sprites/${name}.${report.summary.pictures.extension.replace(/^\./, "")}`;
      entry.decoded = image.decode().then(() => (entry.ready = true), () => (entry.ready = false));
      sheets.set(name, entry);
    }
    return sheets.get(name);
  }

  // Sheets one after the other, with pauses: cutting from one may decode it, some 20 ms in which nothing else moves.
  const waiting = [];
  let busy = false;

  async function work() {
    busy = true;
    while (waiting.length) {
      const start = performance.now();
      while (waiting.length && performance.now() - start < 8) cut(waiting.shift());
      await new Promise((resolve) => setTimeout(resolve));
    }
    busy = false;
  }

  function cut(entry) {
    const { side, columns } = report.summary.pictures;
    for (const { canvas, place, done } of entry.queue.splice(0)) {
      const [x, y] = [(place % columns) * side, Math.floor(place / columns) * side];
      if (entry.ready) canvas.getContext("2d").drawImage(entry.image, x, y, side, side, 0, 0, side, side);
      else canvas.classList.add("missing");
      done?.();
    }
  }

  async function ask(entry) {
    await entry.decoded;
    waiting.push(entry);
    if (!busy) work();
  }

  /* A thumbnail; `done` is called when it has its pixels. */
  report.thumb = (index, done) => {
    if (report.summary.single) {
      const source = report.parts.get("pictures")[index];
      return report.el(source ? "img" : "span", { class: "thumb missing", alt: "", src: source });
    }
    const { side } = report.summary.pictures;
    const { name, place } = placeOf(index);
    const canvas = report.el("canvas", { class: "thumb", width: side, height: side, "aria-hidden": "true" });
    const entry = sheet(name);
    entry.queue.push({ canvas, place, done });
    if (entry.queue.length === 1) ask(entry);
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

  /* A grid of such pictures. caption: (image, place) → text or null; limit: number of them that are shown. */
  report.grid = (indices, { caption = null, limit = Infinity, ...options } = {}) => dom.grid(indices.slice(0, limit), {
    ...options, extra: caption ? 20 : 0, signal: report.signal,
    cell: (image, place) => report.picture(image, { list: indices, caption: caption?.(image, place) ?? null }),
  });
})();
