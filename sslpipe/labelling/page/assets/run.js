"use strict";
// The run that learns from the labels: its lines, the accuracy after each, and what the last one changed.

(() => {
  const STATES = { running: "running", finished: "finished", failed: "failed", stopped: "stopped" };

  label.views.run = () => {
    const start = label.button("", () => send("run"), { class: "main" });
    const stop = label.button("Stop", () => send("stop"));
    const why = label.el("p", { class: "hint" });
    const lines = label.el("pre", { tabindex: "0", role: "region", "aria-label": "Lines of the run" });
    const [results, next, changes] = [label.el("section"), label.el("section"), label.el("section")];
    let [asked, busy] = [null, false];

    async function send(address) {
      if (busy) return;
      busy = true;
      label.say("");
      const begun = label.begin();
      try {
        const reply = await label.post(address);
        label.take(reply.state, begun);
        if (reply.message) label.say(reply.message);
      } catch (error) {
        label.say(error.message, true);
      }
      busy = false;
      update();
    }

    function update() {
      const { run } = label.state;
      const running = run.state === "running";
      start.replaceChildren("Learn from the labels (", label.el("code", {}, label.shown(run.command)), ")");
      start.disabled = running || !run.can;
      stop.hidden = !running;
      why.replaceChildren(running ? `running, ${Math.round(run.seconds)} s` : !run.can && run.why ? label.text(run.why)
        : run.state in STATES ? `${STATES[run.state]} after ${Math.round(run.seconds)} s` : "Trains again with all labels up to now; this page stays usable.");
      why.classList.toggle("wrong", run.state === "failed");
      const text = run.lines.map(label.shown).join("\n");
      if (lines.textContent !== text) {
        const end = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 20;
        lines.textContent = text;
        if (end) lines.scrollTop = lines.scrollHeight;
      }
      lines.hidden = text === "";
      table();
      commands();
      if (!running) whatChanged();
    }

    function table() {
      const rows = label.state.results;
      const key = JSON.stringify(rows);
      if (results.dataset.key === key) return;
      results.dataset.key = key;
      if (rows.length === 0) return results.replaceChildren();
      const head = ["Answers", "Held-out accuracy", "Images", "Model"].map((text, place) => label.el("th", { scope: "col", class: place < 3 ? "number" : null }, text));
      const number = (text) => label.el("td", { class: "number" }, text);
      results.replaceChildren(label.el("h2", {}, "Results"),
        label.el("p", { class: "hint" }, rows.some((row) => row.accuracy === null) ? "Without an answer to a random held-out image no accuracy is known." : "On the random held-out images with a label."),
        label.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Results" }, label.el("table", {},
          label.el("thead", {}, label.el("tr", {}, head)),
          label.el("tbody", {}, rows.map((row) => label.el("tr", {}, number(row.answers.toLocaleString("en")),
            number(row.accuracy === null ? "–" : `${row.accuracy.toFixed(2)}${!row.deviation ? "" : ` ± ${row.deviation.toFixed(2)}`}`),
            number(row.accuracy === null ? "–" : row.count), label.el("td", {}, label.text(row.source))))))));
      return undefined;
    }

    /* What one does with the classifier, in a terminal. */
    function commands() {
      const { classifier } = label.state;
      const key = classifier ?? "";
      if (next.dataset.key === key) return;
      next.dataset.key = key;
      if (!classifier) return next.replaceChildren();
      const text = [`sslpipe predict ${classifier} NEW_IMAGES --sort-into sorted`, `sslpipe export ${classifier}`].map(label.shown).join("\n");
      next.replaceChildren(label.el("p", { class: "hint" }, "The classifier on new images, and as a file for other programs:"), label.el("pre", { tabindex: "0", role: "region", "aria-label": "Commands" }, text));
      return undefined;
    }

    async function whatChanged() {
      const key = JSON.stringify([label.state.results, label.state.run.state]);
      if (asked === key) return;
      asked = key;
      let found;
      try {
        found = await label.get("changes");
      } catch (error) {
        asked = null;
        return changes.replaceChildren(label.el("p", { class: "wrong" }, label.text(error.message)));
      }
      const note = found.note ? label.el("p", { class: "hint" }, label.text(found.note)) : null;
      if (found.after === null) return changes.replaceChildren(...(note ? [note] : []));
      changes.replaceChildren(...[label.el("h2", {}, "What changed"),
        label.el("p", { class: "hint" }, `${found.changed.toLocaleString("en")} of ${label.count(found.of, "image")}: from `,
          label.text(found.before), ...(found.before === found.after ? [", as it was, to what it is now"] : [" to ", label.text(found.after)])),
        note,
        label.el("ul", { class: "changes" }, found.rows.map((row) => label.el("li", {},
          label.el("p", {}, `${label.count(row.count, "image")}: `, label.text(row.from), " → ", label.el("strong", {}, label.text(row.to))),
          label.el("div", { class: "few" }, row.images.slice(0, 12).map((image) => label.thumb(image, { loading: "lazy" })))))),
        label.el("p", {}, label.el("a", { href: "#questions" }, "New questions"))].filter(Boolean));
      return undefined;
    }

    return {
      title: "Run",
      content: [label.el("h1", {}, "Run"), label.el("div", { class: "tools" }, start, stop, why), lines, results, next, changes],
      key: label.goByKey,
      update,
    };
  };
})();
