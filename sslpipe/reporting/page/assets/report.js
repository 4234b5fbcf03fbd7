"use strict";
// What all scripts of the report share: data, models, and the choice of the page by the address's #hash.

const report = { ...dom, views: {}, parts: new Map(), waiting: new Map(), models: new Map(), signal: null };

/* Data files call this: data/NAME.js is sslpipeReport("NAME", {…}). */
function sslpipeReport(name, value) {
  report.parts.set(name, value);
  report.waiting.get(name)?.resolve(value);
}

(() => {
  // A page from disk may not fetch a file beside it, but may run it as a script.
  report.load = (name) => {
    if (report.parts.has(name)) return Promise.resolve(report.parts.get(name));
    if (!report.waiting.has(name)) {
      const wait = {};
      wait.promise = new Promise((resolve, reject) => Object.assign(wait, { resolve, reject }));
      report.waiting.set(name, wait);
      const fail = () => wait.reject(new Error(`data/${name}.js cannot be read`));
      document.head.append(report.el("script", { src: `data/${name}.js`, onerror: fail }));
    }
    return report.waiting.get(name).promise;
  };

  report.has = (name) => report.summary.parts.includes(name);

  report.array = (text, Type) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Type(bytes.buffer);
  };

  report.model = async (entry) => {
    if (report.models.has(entry.file)) return report.models.get(entry.file);
    const raw = await report.load(entry.file);
    const groups = new Map(raw.groups.map((group) => [group.id, group]));
    const order = [...new Set([...raw.order, ...groups.keys()])].filter((id) => groups.has(id));
    const classes = report.summary.classes ?? [];
    const model = {
      ...raw, entry, groups, order,
      group: report.array(raw.group, Uint16Array),
      second: report.array(raw.second, Uint16Array),
      confidence: report.array(raw.confidence, Uint8Array),
      margin: report.array(raw.margin, Uint8Array),
      // Group → class whose name it has, or -1.
      classOf: (id) => (entry.kind === "classes" ? id : classes.indexOf(groups.get(id)?.name ?? null)),
      groupName: (id) => groups.get(id)?.name ?? (entry.kind === "classes" ? classes[id] : null) ?? `Group ${id}`,
    };
    model.named = order.some((id) => model.classOf(id) >= 0) && classes.length > 0;
    report.models.set(entry.file, model);
    return model;
  };

  report.members = (model, id) => {
    const found = [];
    model.group.forEach((group, image) => group === id && found.push(image));
    return found;
  };

  report.className = (id) => (id < 0 ? "not known" : report.summary.classes?.[id] ?? `Class ${id}`);
  report.splits = ["train", "held out", "test"];

  report.name = (image) => report.shown(report.images.names[image]) || `image ${image}`;
  report.number = (value, decimals = null) => {
    if (value === null || value === undefined) return "–";
    if (decimals !== null && typeof value === "number") return value.toFixed(decimals);
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return Math.abs(value) >= 1000 || Math.abs(value) < 0.001 ? value.toPrecision(3) : value.toFixed(3);
  };

  // Which model a page shows: that of the address, or else the first one.
  report.chosen = (name) => report.summary.models.find((entry) => entry.name === name) ?? report.summary.models[0];
  report.modelChoice = (entry, onchange) => report.summary.models.length > 1 &&
    report.select("Model", report.summary.models.map((model) => [model.name, report.shown(model.name)]), entry.name, onchange);

  const PAGES = [
    ["groups", "Groups", () => report.summary.models.length > 0],
    ["map", "Map", () => report.has("map")],
    ["scores", "Scores", () => report.summary.models.length > 0],
    ["doubts", "Doubts", () => report.has("doubts")],
    ["training", "Training", () => report.has("training")],
    ["about", "About", () => true],
  ];

  let page, view, last = null;
  const scrolled = new Map();
  const links = (pages) => document.getElementById("pages").replaceChildren(...pages.map(([key, text]) =>
    report.el("a", { href: `#${key}`, "data-page": key }, text)));

  async function show(pages, byUser) {
    if (location.hash === "#main") return document.getElementById("main").focus();
    const now = location.hash;
    const [key, ...rest] = report.words();
    const found = pages.find((candidate) => candidate[0] === key) ?? pages[0];
    view?.abort();
    document.getElementById("image").close();
    view = new AbortController();
    report.signal = view.signal;
    page = found[0];
    for (const link of document.querySelectorAll("[data-page]")) {
      if (link.dataset.page === page) {
        link.setAttribute("aria-current", "page");
        link.parentElement.scrollLeft = link.offsetLeft - 40;
      }
      else link.removeAttribute("aria-current");
    }
    document.title = `${found[1]} · ${report.shown(report.summary.title)}`;
    const main = document.getElementById("main");
    const { signal } = view;
    let content;
    try {
      content = await report.views[page](rest, signal);
    } catch (error) {
      content = [report.el("h1", {}, found[1]), report.el("p", { class: "wrong" }, error.message)];
      console.error(error);
    }
    if (signal.aborted) return;
    main.replaceChildren(...[content].flat(Infinity).filter(Boolean));
    main.dataset.shown = now;
    // From a group back to all groups: where one was.
    const back = last !== null && last.startsWith(`${now}/`);
    last = now;
    scrollTo(0, back ? scrolled.get(now) ?? 0 : 0);
    if (byUser) main.focus({ preventScroll: true });
  }

  addEventListener("DOMContentLoaded", () => {
    const [summary, images] = [report.parts.get("summary"), report.parts.get("images")];
    const main = document.getElementById("main");
    report.theme();
    if (!summary || !images) return main.replaceChildren("Files of this report are missing: open it in its folder, with data/ beside it.");
    report.summary = summary;
    report.images = {
      ...images,
      split: report.array(images.split, Uint8Array),
      label: report.array(images.label, Int16Array),
      given: report.array(images.given, Uint8Array),
    };
    report.images.anyGiven = report.images.given.includes(1);
    document.getElementById("title").textContent = report.shown(summary.title);
    const pages = PAGES.filter(([key, , there]) => there() && (!summary.single || key === "groups" || key === "about"));
    links(pages);
    addEventListener("scroll", () => scrolled.set(location.hash, scrollY), { passive: true });
    addEventListener("hashchange", () => show(pages, true));
    show(pages, false);
  });
})();
