"use strict";
// All groups as cards, in which one types names; two become one, one becomes two; and the classes that the names make.

(() => {
  let left = null;  // the group that was open last

  label.views.groups = () => {
    const cards = new Map();
    const list = label.el("div", { class: "cards" });
    const [facts, notes, classes] = [label.el("p", { class: "hint" }), label.el("div", { class: "notes" }), label.el("div")];
    const fields = () => [...list.querySelectorAll("input.name")];

    function next(id, step) {
      const all = fields();
      const here = all.findIndex((field) => field.dataset.nameOf === String(id));
      const other = all[here + step] ?? (step > 0 ? all.find((field) => field.value === "") : null);
      other?.focus();
      other?.select();
    }

    function update() {
      const { state } = label;
      const named = state.groups.filter((group) => label.nameOf(group)).length;
      const by = state.model ? [" by ", label.text(state.model)] : [];
      const of = [` of ${label.count(state.images.train, "image")}`, ...by];
      if (state.kind === "none") facts.replaceChildren(label.count(state.images.train, "image"), " in no groups yet: answer questions, or run the pipeline.");
      else if (state.kind === "classes") facts.replaceChildren(label.count(state.groups.length, "class", "classes"), ...of, ". A classifier has these names from its labels.");
      else facts.replaceChildren(label.count(state.groups.length, "group"), ...of, named > 0 ? ` · ${named} with a name. ` : ". ",
        ...(named < state.groups.length ? ["Type a name, ", label.el("kbd", {}, "Enter"), " goes on to the next; the same name for two groups makes them one class."] : []));
      notes.replaceChildren(...state.notes.map((note) => label.el("p", { class: "hint" }, label.text(note))));
      const focused = document.activeElement;
      const lost = list.contains(focused) ? focused.closest(".card") : null;
      const ids = new Set(state.groups.map((group) => group.id));
      for (const [id, card] of cards) {
        if (id === "aside" ? state.aside > 0 : ids.has(id)) continue;
        card.remove();
        cards.delete(id);
      }
      const wanted = state.groups.map((group) => {
        if (!cards.has(group.id)) cards.set(group.id, groupCard(group.id, next));
        return cards.get(group.id);
      });
      if (state.aside > 0) {
        if (!cards.has("aside")) cards.set("aside", asideCard());
        wanted.push(cards.get("aside"));
      }
      wanted.forEach((card, place) => list.children[place] !== card && list.insertBefore(card, list.children[place] ?? null));
      cards.forEach((card) => card.show());
      if (lost && lost.isConnected && document.activeElement !== focused) focused.focus();
      else if (lost && !lost.isConnected) (fields().find((field) => field.value === "") ?? fields()[0])?.focus();
      classTable(classes);
    }

    return {
      title: "Groups",
      content: [label.el("h1", { class: "unseen" }, "Groups"), facts, notes, list, classes],
      update,
      key: label.goByKey,
      focus() {
        const card = cards.get(left);
        left = null;
        if (card) card.querySelector("a.open").focus();
        else if (!matchMedia("(pointer: coarse)").matches) fields().find((field) => !field.disabled && field.value === "")?.focus();
      },
    };
  };

  const open = (id) => {
    left = id;
    location.hash = `#group/${id}`;
  };
  label.leave = (id) => (left = id);

  function groupCard(id, next) {
    const field = label.nameField(id, { enter: () => next(id, 1), previous: () => next(id, -1), large: () => open(id) });
    const facts = label.el("p", { class: "hint facts-of" });
    const strip = label.el("a", { class: "strip", href: `#group/${id}`, tabindex: "-1", onclick: () => (left = id) });
    const merge = label.el("select", { onfocus: () => fill(), onpointerdown: () => fill(), onchange: () => (go.hidden = merge.value === "") });
    const go = label.button("Merge", () => {
      const into = Number(merge.value);
      label.act({ do: "merge", group: id, into });
    }, { hidden: true });
    const split = label.button("Split", () => label.act({ do: "split", group: id }), { title: "Make two groups of this one, by its features" });
    const card = label.el("article", { class: "card", "data-group": id },
      label.el("div", { class: "card-head" }, field, facts), strip,
      label.el("div", { class: "card-foot" },
        label.el("a", { class: "open", href: `#group/${id}`, onclick: () => (left = id) }, "Open"), merge, go, split));
    merge.append(label.el("option", { value: "" }, "merge into …"));

    function fill() {
      const kept = merge.value;
      const others = label.state.groups.filter((group) => group.id !== id);
      merge.replaceChildren(label.el("option", { value: "" }, "merge into …"),
        ...others.map((group) => label.el("option", { value: group.id }, label.shown(label.choiceOf(group)))));
      merge.value = others.some((group) => String(group.id) === kept) ? kept : "";
    }

    let drawn = null;
    card.show = () => {
      const group = label.group(id);
      field.show();
      const fixed = label.state.kind !== "groups";
      field.disabled = fixed;
      for (const part of [merge, split]) part.hidden = fixed;
      const code = label.shown(group.code);
      facts.replaceChildren(label.el("span", { class: "code", title: `group ${code}` }, code), ` ${label.count(group.count, "image")}`,
        group.labelled > 0 ? ` · ${label.count(group.labelled, "label")}` : "");
      merge.setAttribute("aria-label", `Merge group ${code} into`);
      strip.setAttribute("aria-label", `Open group ${code}`);
      if (drawn === JSON.stringify(group.first)) return;
      drawn = JSON.stringify(group.first);
      strip.replaceChildren(...group.first.slice(0, 12).map((image) => label.thumb(image, { loading: "lazy" })));
    };
    return card;
  }

  function asideCard() {
    const facts = label.el("p", { class: "hint" });
    const card = label.el("article", { class: "card aside" }, label.el("h2", {}, "Set aside"), facts,
      label.el("div", { class: "card-foot" }, label.el("a", { class: "open", href: "#group/aside", onclick: () => (left = "aside") }, "Open")));
    card.show = () => (facts.textContent = `${label.count(label.state.aside, "image")} that belong to no group.`);
    return card;
  }

  /* The classes with what has their names; a changed name is changed everywhere. */
  function classTable(box) {
    const key = JSON.stringify([label.state.classes, label.pending()]);
    if (box.dataset.key === key || box.contains(document.activeElement)) return;
    box.dataset.key = key;
    const opened = box.querySelector("details")?.open ?? false;
    if (label.state.classes.length === 0) return box.replaceChildren();
    const rows = label.state.classes.map(({ name, groups, labels, held_out: held }) => {
      const field = label.el("input", { type: "text", value: name, "aria-label": `New name of class ${label.shown(name)}`, spellcheck: "false" });
      field.dataset.kept = field.value;
      const save = () => {
        if (!label.changed(field) || !field.value.trim()) return (field.value = field.dataset.kept);
        field.dataset.kept = field.value;
        return label.act({ do: "rename", class: name, to: field.value.trim() });
      };
      field.addEventListener("change", save);
      field.addEventListener("keydown", (event) => {
        if (event.key === "Escape") field.value = field.dataset.kept;
        if (event.key === "Enter") save();
      });
      return label.el("tr", {}, label.el("td", {}, field), label.el("td", { class: "number" }, groups), label.el("td", { class: "number" }, labels), label.el("td", { class: "number" }, held));
    });
    const head = ["Class", "Groups", "Labels", "of these held out"].map((text, place) => label.el("th", { scope: "col", class: place ? "number" : null }, text));
    box.replaceChildren(label.el("details", { open: opened },
      label.el("summary", {}, `${label.count(rows.length, "class", "classes")}: counts, and other names for them`),
      label.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Classes" },
        label.el("table", {}, label.el("thead", {}, label.el("tr", {}, head)), label.el("tbody", {}, rows)))));
    return undefined;
  }
})();
