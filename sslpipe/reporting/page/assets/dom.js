"use strict";
// What the report and the page of `sslpipe label` share: elements, texts of the user, addresses and the theme.

const dom = {};

(() => {
  dom.el = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (key === "class") element.className = value;
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  };

  dom.button = (text, onclick, attributes = {}) => dom.el("button", { type: "button", onclick, ...attributes }, text);

  dom.select = (label, options, value, onchange) => {
    const select = dom.el("select", { onchange: () => onchange(select.value) },
      options.map(([key, text]) => dom.el("option", { value: key, selected: String(key) === String(value) }, text)));
    return dom.el("label", { class: "choice" }, dom.el("span", {}, label), select);
  };

  // Characters that are not seen, or that turn the direction of the text around them, as escapes.
  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Cs}/gu;
  dom.shown = (text) =>
    text.replace(UNSEEN, (c) => (c === "\n" ? "\\n" : `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`));
  // A text of the user in a box of its own, so that its direction does not reach beyond it.
  dom.text = (text, attributes = {}) => dom.el("bdi", attributes, dom.shown(String(text)));

  dom.count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  dom.percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}\u00a0%`;
  dom.say = (text) => (document.getElementById("status").textContent = text);

  dom.address = (...words) => `#${words.map(encodeURIComponent).join("/")}`;
  dom.words = () => location.hash.slice(1).split("/").map((word) => {
    try { return decodeURIComponent(word); } catch { return ""; }
  });

  /* The button #theme chooses between the system's theme, light and dark. */
  dom.theme = () => {
    const button = document.getElementById("theme");
    const kinds = ["auto", "light", "dark"];
    let kind = "auto";
    try { kind = localStorage.getItem("sslpipe-theme") ?? kind; } catch { /* not allowed from disk: forgotten */ }
    const set = () => {
      document.documentElement.dataset.theme = kind;
      button.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[kind];
      button.setAttribute("aria-label", `Theme: ${kind}`);
      dispatchEvent(new Event("sslpipe-theme"));
    };
    button.addEventListener("click", () => {
      kind = kinds[(kinds.indexOf(kind) + 1) % kinds.length];
      try { localStorage.setItem("sslpipe-theme", kind); } catch { /* as above */ }
      set();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", set);
    set();
  };

  dom.dark = () => {
    const kind = document.documentElement.dataset.theme;
    return kind === "dark" || (kind === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  };
})();
