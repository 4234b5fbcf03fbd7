"use strict";
// A field with suggestions: the row that Enter takes is always marked, and so is that it would make a new class.

(() => {
  const ROWS = 8;
  let number = 0;

  /* options(): list of {name, text?, value}; take(value): one was chosen; create: text → value of a new one, or null
     where none can be made; missing: what is said then; leave(): Escape. Its `field` is the input. */
  label.chooser = ({ title, placeholder, options, take, create = null, missing = "nothing has this name", leave = null, all = false }) => {
    const id = `chooser-${++number}`;
    const field = label.el("input", {
      type: "text", placeholder, "aria-label": title, role: "combobox", "aria-expanded": "false", "aria-autocomplete": "list",
      "aria-controls": id, autocomplete: "off", spellcheck: "false", "data-kept": "", enterkeyhint: "done",
    });
    const list = label.el("ul", { id, role: "listbox", "aria-label": title, hidden: true });
    const hint = label.el("p", { class: "hint", hidden: true });
    const box = label.el("div", { class: "chooser" }, field, label.el("div", { class: "suggestions" }, list, hint));
    let [rows, chosen] = [[], -1];

    const fold = (text) => text.normalize("NFC").toLowerCase();
    function find(text) {
      const [wanted, every] = [fold(text), options()];
      const starts = every.filter((one) => fold(one.name).startsWith(wanted));
      const inside = every.filter((one) => !starts.includes(one) && fold(one.text ?? one.name).includes(wanted));
      const found = [...starts, ...inside];
      const same = found.find((one) => one.name === text) ?? found.find((one) => fold(one.name) === wanted)
        ?? found.find((one) => one.text !== undefined && fold(one.text) === wanted);
      const first = same ? [same, ...found.filter((one) => one !== same)] : found;
      return { found: first.slice(0, ROWS), more: Math.max(0, first.length - ROWS), same: same !== undefined, exact: same?.name === text };
    }

    function draw() {
      const text = field.value.trim();
      const { found, more, same, exact } = find(text);
      const fresh = create !== null && text !== "" && !exact ? create(text) : null;
      rows = text === "" && !all ? [] : [...found, ...(fresh === null ? [] : [{ name: text, value: fresh, fresh: true }])];
      chosen = text === "" ? -1 : same || found.length === 1 ? 0 : found.length === 0 ? rows.length - 1 : -1;
      list.replaceChildren(...rows.map((row, place) => label.el("li", {
        id: `${id}-${place}`, role: "option", onclick: () => pick(place), onmousedown: (event) => event.preventDefault(),
      }, row.fresh ? ["new class ‘", label.text(row.name), "’"] : label.text(row.text ?? row.name))));
      const several = text !== "" && chosen < 0 && found.length > 1;
      hint.textContent = several ? `${found.length + more} fit: type on, or choose with ↓` : text !== "" && rows.length === 0 ? missing
        : more > 0 && rows.length ? `and ${more} more: type on` : "";
      hint.hidden = hint.textContent === "";
      list.hidden = rows.length === 0;
      mark();
    }

    function mark() {
      [...list.children].forEach((row, place) => row.setAttribute("aria-selected", String(place === chosen)));
      field.setAttribute("aria-expanded", String(!list.hidden));
      if (chosen >= 0) field.setAttribute("aria-activedescendant", `${id}-${chosen}`);
      else field.removeAttribute("aria-activedescendant");
    }

    function close() {
      [rows, chosen, list.hidden, hint.hidden] = [[], -1, true, true];
      mark();
    }

    function pick(place) {
      const { value } = rows[place];
      field.value = "";
      close();
      take(value);
    }

    field.addEventListener("input", draw);
    field.addEventListener("focus", draw);
    field.addEventListener("blur", close);
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter") {
        if (chosen >= 0) pick(chosen);
      } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        if (list.hidden) draw();
        const step = event.key === "ArrowDown" ? 1 : -1;
        if (rows.length) chosen = chosen < 0 && step < 0 ? rows.length - 1 : (chosen + step + rows.length) % rows.length;
        mark();
      } else if (event.key === "Escape") {
        field.value = "";
        close();
        leave?.();
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    box.field = field;
    return box;
  };
})();
