"use strict";
// Lists of images to take along: copied, saved as text, or looked at in a grid.

(() => {
  /* Copies a text; false if the browser refuses. */
  report.copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = report.el("textarea", { class: "unseen", "aria-hidden": "true" });
      area.value = text;
      (document.querySelector("dialog[open]") ?? document.body).append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  };

  report.save = (name, text) => {
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    report.el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  };

  /* File names, a line each; one with a line break or a tab in it as a JSON text, so that lines stay lines. */
  report.line = (name) => (/[\n\r\t\u2028\u2029]|^"/.test(name) ? JSON.stringify(name) : name);
  report.lines = (indices) => {
    const names = indices.map((image) => report.images.names[image]);
    return { text: `${names.filter(Boolean).map(report.line).join("\n")}\n`, without: names.filter((name) => !name).length,
      quoted: names.filter((name) => name && report.line(name) !== name).length };
  };

  /* Buttons that copy or save the text that `make` returns: {text, without, quoted}. */
  report.taking = (make, file, what = "names") => {
    const said = report.el("span", { class: "hint", role: "status" });
    const tell = (done) => {
      const { without = 0, quoted = 0 } = make();
      said.textContent = [done, without && `${report.count(without, "image")} without a file name left out`,
        quoted && `${report.count(quoted, "name")} with line breaks as JSON texts`].filter(Boolean).join("; ");
    };
    return report.el("div", { class: "taking" },
      report.button(`Copy ${what}`, async () => tell((await report.copy(make().text)) ? "Copied" : "Not copied: the browser refused")),
      report.button("Save as text", () => { report.save(file, make().text); tell(`Saved as ${file}`); }), said);
  };

  /* Section with chosen images: how many, their names to copy or to save, and the images themselves. */
  report.selection = (title, indices, { note = null, close = null } = {}) => {
    const names = report.el("details", { ontoggle: () => {
      if (!names.open || names.querySelector("textarea")) return;
      const area = report.el("textarea", { readonly: true, rows: "12", "aria-label": "File names", spellcheck: "false" });
      area.value = report.lines(indices).text;
      names.append(area);
    } }, report.el("summary", {}, "File names"));
    return report.el("section", { class: "selection", "aria-label": "Selected images" },
      report.el("div", { class: "heading" },
        report.el("h2", { tabindex: "-1" }, ...[title].flat(), ` (${report.count(indices.length, "image")})`),
        close && report.button("Clear", close)),
      note && report.el("p", { class: "hint" }, note),
      indices.length > 0 && report.taking(() => report.lines(indices), "images.txt"),
      indices.length > 0 && names,
      report.grid(indices, { label: "Selected images" }));
  };
})();
