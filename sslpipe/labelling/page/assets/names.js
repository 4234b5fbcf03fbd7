"use strict";
// Names of groups and classes as they will be once all actions are saved, and the field in which one names a group.

(() => {
  label.nameOf = (group) => {
    let { name } = group;
    for (const action of label.pending()) {
      if (action.do === "name" && action.group === group.id) name = action.name;
      if (action.do === "rename" && action.class === name) name = action.to;
    }
    return name;
  };
  label.group = (id) => label.state.groups.find((group) => group.id === id) ?? null;
  label.titleOf = (group) => label.nameOf(group) || `group ${group.code}`;
  /* A group for a list of choices: its name and its code. */
  label.choiceOf = (group) => (label.nameOf(group) ? `${label.nameOf(group)} · ${group.code}` : `group ${group.code}`);

  /* Classes in the order of their first use, with those that wait. */
  label.classNames = () => {
    const names = new Set(label.state.classes.map((one) => one.name));
    for (const action of label.pending()) {
      if (action.do === "name" && action.name) names.add(action.name);
      if (action.do === "answer" && action.label !== null) names.add(action.label);
      if (action.do === "rename") {
        names.delete(action.class);
        names.add(action.to);
      }
    }
    return [...names];
  };

  /* Whether a field holds something that is typed and not saved. */
  label.changed = (field) => "kept" in field.dataset && field.value !== field.dataset.kept;

  const put = (field, text) => {
    field.value = text;
    field.dataset.kept = field.value;  // without the line breaks that a field cannot hold
  };

  /* A field for the name of a group. `enter(event)`: after Enter has saved; previous(): for Shift+Enter and ArrowUp.
     Its `show()` takes over the name of the state unless another one is half typed. */
  label.nameField = (id, { enter = null, previous = null, large = null } = {}) => {
    const field = label.el("input", {
      type: "text", class: "name", placeholder: "name", list: "class-names", autocomplete: "off", spellcheck: "false",
      "data-name-of": id, enterkeyhint: "next",
    });
    put(field, "");
    const save = () => {
      if (!label.changed(field)) return;
      const name = field.value.trim();
      put(field, name);
      label.act({ do: "name", group: id, name });
    };
    field.show = () => {
      const group = label.group(id);
      if (group === null) return;
      const name = label.nameOf(group);
      field.setAttribute("aria-label", `Name of group ${label.shown(group.code)}`);
      if (field.dataset.of === name && field.dataset.of !== undefined && !label.changed(field)) return;
      if (label.changed(field) && document.activeElement === field) return;
      field.dataset.of = name;
      put(field, name);
    };
    field.addEventListener("change", save);
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && large) {
        save();
        large();
      } else if (event.key === "Enter" || (event.key === "ArrowUp" && previous && !label.changed(field))) {
        save();
        if (event.shiftKey || event.key === "ArrowUp") previous?.();
        else enter?.();
      } else if (event.key === "ArrowDown" && enter && previous && !label.changed(field) && field.value !== "") enter();
      else if (event.key === "Escape" && label.changed(field)) {
        field.value = field.dataset.kept;
      } else return;
      event.preventDefault();
    });
    return field;
  };
})();
