"use strict";
// The state of the page: what the server says, which view is shown, and the lines and buttons above it.

/* views: name → (words of the address, signal) → {title, content, update?, key?, focus?}; view: the one that is shown. */
const label = { ...dom, views: {}, view: null, state: null };

(() => {
  label.random = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  // A tab that is loaded again is the same one: the server counts the tabs that are open.
  const TAB = `sslpipe-label-tab ${location.pathname}`;
  let tab = label.random();
  try {
    if (performance.getEntriesByType("navigation")[0]?.type === "reload") tab = sessionStorage.getItem(TAB) ?? tab;
    sessionStorage.setItem(TAB, tab);
  } catch { /* nothing can be kept: it counts as another tab for some seconds */ }
  const PAUSE = 2000;
  const at = (id) => document.getElementById(id);
  let [asked, taken, trouble] = [0, 0, null];

  /* The answer of the server as JSON; an Error with its one line and `status`, 0 where no whole answer came. */
  label.get = async (address, options = {}) => {
    const gone = () => Object.assign(new Error("the server does not answer"), { status: 0 });
    let reply, body;
    try {
      reply = await fetch(address, { cache: "no-store", ...options });
    } catch { throw gone(); }
    try {
      body = await reply.json();
    } catch {
      if (reply.ok) throw gone();
    }
    if (!reply.ok) throw Object.assign(new Error(body?.error ?? `the server answers with ${reply.status}`), { status: reply.status });
    return body;
  };

  /* A number for a request that begins now. Of two under way at the same time, the one with the higher version is newer;
     what was asked for later is the truth, whatever its version: the server may have begun anew. */
  label.begin = () => ++asked;
  label.take = (state, begun) => {
    if (label.state === null ? !state.groups : begun <= taken && state.version <= label.state.version) return;
    taken = asked;
    label.state = { ...label.state, ...state };
    label.refresh();
  };

  async function poll() {
    const begun = label.begin();
    try {
      const since = label.state === null ? "" : `&since=${label.state.version}`;
      label.take(await label.get(`state?page=${tab}${since}`), begun);
      trouble = null;
      label.queue.wake();
    } catch (error) {
      trouble = error;
    }
    lines();
    setTimeout(poll, label.state?.run.state === "running" ? PAUSE / 2 : PAUSE);
  }

  /* Shows what the state and the waiting actions are now. */
  label.refresh = () => {
    if (label.state === null) return;
    bar();
    lines();
    if (label.view === null) show(false);
    else label.view.update?.();
  };

  /* A line about the last action, until the next one. */
  label.say = (text, wrong = false) => {
    at("status").textContent = dom.shown(text ?? "");
    at("status").classList.toggle("wrong", wrong);
  };

  function lines() {
    const waiting = label.queue.waiting.length;
    const wait = waiting > 0 ? `${label.count(waiting, "answer waits", "answers wait")}` : "";
    const refused = label.queue.trouble;
    let text = "";
    if (trouble?.status === 0 || refused?.status === 0)
      text = `The server does not answer; start \`sslpipe label\` again. ${wait ? `${wait}.` : ""}`;
    else if (refused) text = `not saved: ${refused.message}${wait ? `; ${wait}` : ""}`;
    else if (trouble) text = trouble.message;
    else if (label.state?.problem) text = label.state.problem;
    if (at("trouble").textContent !== dom.shown(text)) at("trouble").textContent = dom.shown(text);
    at("trouble").hidden = text === "";
    const { pages } = label.state ?? { pages: 1 };
    at("tabs").hidden = pages <= 1;
    at("tabs").textContent = `This project is open in ${pages} tabs; each shows the others' answers.`;
    const saved = (trouble || refused) && waiting ? "not saved" : waiting ? "saving …" : "saved";
    at("saved").textContent = label.state === null ? "" : saved;
    at("saved").classList.toggle("wrong", saved === "not saved");
  }

  /* "34 labels · held-out accuracy 0.41 → 0.58 ± 0.05": what is known of it. */
  function progress() {
    const known = label.state.results.filter((result) => result.accuracy !== null);
    const [first, last] = [known[0], known[known.length - 1]];
    const from = known.length > 1 ? `${first.accuracy.toFixed(2)} → ` : "";
    const deviation = last?.deviation ? ` ± ${last.deviation.toFixed(2)}` : "";
    return [label.count(label.state.answers.given, "label"),
      last && `held-out accuracy ${from}${last.accuracy.toFixed(2)}${deviation}`].filter(Boolean).join(" · ");
  }

  function bar() {
    const { state } = label;
    at("title").textContent = label.shown(state.title);
    at("progress").textContent = progress();
    const waiting = label.queue.waiting.filter((action) => action.do !== "undo").length;
    at("undo").disabled = state.undo === null && waiting === 0;
    at("undo").title = state.undo === null || waiting > 0 ? "Undo (Ctrl+Z)" : `Undo: ${label.shown(state.undo)} (Ctrl+Z)`;
    const names = label.classNames();
    if (at("class-names").dataset.names !== JSON.stringify(names)) {
      at("class-names").dataset.names = JSON.stringify(names);
      at("class-names").replaceChildren(...names.map((name) => label.el("option", { value: name })));
    }
    document.title = `${label.view?.title ?? "Label"} · ${label.shown(state.title)}`;
  }

  async function show(byUser) {
    if (location.hash === "#main") return at("main").focus();
    const [word, ...rest] = label.words();
    const name = word in label.views && Object.hasOwn(label.views, word) ? word : "groups";
    at("keys").close();
    label.view?.end.abort();
    const end = new AbortController();
    label.view = { title: "Label", end };  // until its content is there
    for (const link of document.querySelectorAll("[data-view]")) {
      const here = link.dataset.view === name || (name === "group" && link.dataset.view === "groups");
      if (here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const now = location.hash;
    let view;
    try {
      view = await label.views[name](rest, end.signal);
    } catch (error) {
      view = { title: "Not found", content: [label.el("h1", {}, "This cannot be shown"), label.el("p", { class: "wrong" }, label.text(error.message))] };
    }
    if (end.signal.aborted) return undefined;
    label.view = Object.assign(view, { end });
    at("main").replaceChildren(...[view.content].flat(Infinity).filter(Boolean));
    at("main").dataset.shown = now;
    scrollTo(0, 0);
    bar();
    view.update?.();
    if (view.focus) view.focus();
    else if (byUser) at("main").focus({ preventScroll: true });
    return undefined;
  }
  label.undo = () => label.act({ do: "undo" });

  /* Whether keys belong to the element: one types there or chooses from its list. */
  label.typing = (element) => element.closest?.("input, textarea, select") ?? null;

  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const field = label.typing(event.target);
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key.toLowerCase() === "z" && !event.shiftKey && !event.altKey) {
      if (field && label.changed(field)) return;  // the browser's own undo of what is typed
      event.preventDefault();
      label.undo();
    } else if (field) return;
    else if (event.key === "?") label.showKeys();
    else label.view?.key?.(event);
  });

  addEventListener("DOMContentLoaded", () => {
    label.theme();
    at("undo").addEventListener("click", label.undo);
    at("help").addEventListener("click", () => label.showKeys());
    addEventListener("hashchange", () => label.state !== null && show(true));
    addEventListener("beforeunload", (event) => label.queue.waiting.length > 0 && event.preventDefault());
    label.queue.send();
    poll();
  });
})();
