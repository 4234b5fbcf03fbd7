"use strict";
// Questions: a picture, the classes on keys, and the next picture at once.

(() => {
  const LEFT = 5;  // so many are left when more are asked for
  const AHEAD = 3;  // so many pictures are loaded before they are shown
  const MOST = 60;  // of the classes that have a button
  let [list, note, asking, version, wrong, source] = [[], null, false, null, null, null];
  const given = new Set();
  const own = [];  // ids of this tab's actions that are not undone
  const answered = new Map();  // id of an action → its question
  const pictures = new Map();  // loaded ahead
  // Digit → class: the first nine, or where classes have one digit as their name, those alone, each by its own.
  const keysOf = (names) => {
    const digits = names.filter((name) => /^[0-9]$/.test(name));
    return new Map(digits.length ? digits.map((name) => [name, name]) : names.slice(0, 9).map((name, place) => [String(place + 1), name]));
  };
  const key = (question) => `${question.kind} ${question.image}`;
  let current = null;  // draws again; of the view that is shown

  label.acted = (id, action) => {
    if (action.do !== "undo") own.push(id);
    else back(own.pop());
  };
  label.refused = (action) => {
    if (own.includes(action.id)) own.splice(own.indexOf(action.id), 1);
    back(action.id);
  };
  function back(id) {
    const question = answered.get(id);
    if (!question) return;
    answered.delete(id);
    given.delete(key(question));
    list.unshift(question);
  }

  function ahead() {
    const wanted = new Set();
    for (const question of list.slice(0, AHEAD)) {
      wanted.add(question.image);
      if (!pictures.has(question.image)) pictures.set(question.image, label.large(question.image));
    }
    for (const image of [...pictures.keys()]) if (!wanted.has(image)) pictures.delete(image);
  }

  async function more() {
    const now = `${label.state.model} ${label.state.results.length}`;
    if (source !== null && source !== now) [list, version] = [[], null];  // another model asks other questions
    source = now;
    if (asking || list.length > LEFT || version === label.state.version || (list.length === 0 && label.queue.waiting.length > 0)) return;
    [asking, version] = [true, label.state.version];
    try {
      const answer = await label.get("questions");
      // What was answered meanwhile, the server may not have known: it is asked again only about its label.
      const there = new Set(list.map((question) => question.image));
      const known = new Set([...answered.values()].map((question) => question.image));
      list.push(...answer.questions.filter((question) => !there.has(question.image) && !given.has(key(question))
        && (question.label !== null || !known.has(question.image))));
      [note, wrong] = [answer.note, null];
    } catch (error) {
      [wrong, version] = [error.message, null];
    }
    asking = false;
    if (wrong === null && version !== label.state.version) more();  // of what was answered meanwhile
    current?.();
  }

  function answer(text, why = null) {
    const question = list.shift();
    if (!question) return;
    given.add(key(question));
    answered.set(label.act({ do: "answer", image: question.image, label: text, ...(why && { why }) }), question);
    document.getElementById("main").focus({ preventScroll: true });
  }

  label.views.questions = () => {
    const box = label.el("div", { class: label.state.side < 100 ? "asking small" : "asking" });
    const [buttons, noneKey] = [label.el("div", { class: "classes" }), label.el("kbd", {}, "0")];
    const chooser = label.chooser({
      title: "Type a class", placeholder: "type a class, also a new one",
      options: () => label.classNames().map((name) => ({ name, value: name })), create: (text) => text, take: (name) => answer(name),
      leave: () => document.getElementById("main").focus(),
    });
    let drawn = null;

    function classes(question) {
      const names = label.classNames();
      const now = JSON.stringify([names, question.suggested]);
      if (buttons.dataset.key === now) return;
      buttons.dataset.key = now;
      const keys = new Map([...keysOf(names)].map(([digit, name]) => [name, digit]));
      noneKey.textContent = keysOf(names).has("0") ? "." : "0";
      buttons.replaceChildren(...names.slice(0, MOST).map((name) => label.button(
        [keys.has(name) && label.el("kbd", {}, keys.get(name)), label.text(name), name === question.suggested && label.el("kbd", { class: "enter" }, "Enter")],
        () => answer(name), { class: name === question.suggested ? "suggested" : null })),
      names.length > MOST ? label.el("span", { class: "hint" }, `and ${names.length - MOST} more: type`) : "");
    }

    function draw() {
      const question = list[0];
      if (!question) {
        drawn = null;
        box.replaceChildren(label.el("div", { class: "no-question" },
          label.el("p", {}, wrong ? label.text(wrong) : asking || (version !== label.state.version && label.queue.waiting.length) ? "Looking for questions …" : label.text(note ?? "No more questions.")),
          wrong || asking ? null : label.el("p", {}, label.el("a", { href: "#run" }, "Learn from the labels"), " · ", label.el("a", { href: "#groups" }, "name groups"))));
      } else {
        classes(question);
        if (drawn !== key(question) || !box.firstChild) {
          drawn = key(question);
          box.replaceChildren(...parts(question));
        }
      }
      ahead();
    }

    function parts(question) {
      const group = label.group(question.group);
      const doubt = question.kind === "doubtful" && question.label !== null;
      const ask = doubt ? ["Is this really ‘", label.text(question.label), "’?"] : "Which class is this?";
      return [
        label.el("div", { class: "picture-of" }, pictures.get(question.image) ?? label.large(question.image)),
        label.el("div", { class: "answering" },
          label.el("h2", {}, ask),
          label.el("p", { class: "hint" }, label.text(question.reason), question.held_out ? " · held out: it measures, and nothing is learned from it" : ""),
          buttons, chooser,
          label.el("div", { class: "tools" },
            label.button([noneKey, "none of these"], () => answer(null, "none")),
            label.button([label.el("kbd", {}, "Space"), "unsure"], () => answer(null, "unsure"))),
          label.el("div", { class: "around" },
            group && label.el("div", {}, label.el("h3", {}, "Its group: ", label.el("a", { href: `#group/${group.id}` }, label.text(label.titleOf(group)))),
              label.el("div", { class: "few" }, group.first.slice(0, 3).map((image) => label.el("figure", {}, label.thumb(image))))),
            question.neighbors.length > 0 && label.el("div", {}, label.el("h3", {}, "Most similar images"),
              label.el("div", { class: "few" }, question.neighbors.slice(0, 5).map((near) => label.el("figure", { title: `similarity ${near.similarity.toFixed(2)}` },
                label.thumb(near.image), label.el("figcaption", {}, near.label === null ? "–" : label.text(near.label)))))))),
      ];
    }

    function press(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const question = list[0];
      const control = event.target.closest("button, a, summary");
      if (event.key === "Backspace") label.undo();
      else if (!question || event.repeat || (control && [" ", "Enter"].includes(event.key))) return;
      else if (/^[0-9]$/.test(event.key)) {
        const name = keysOf(label.classNames()).get(event.key);
        if (name !== undefined) answer(name);
        else if (event.key === "0") answer(null, "none");
        else return void label.say(`No class has the key ${event.key} yet.`);
      } else if (event.key === ".") answer(null, "none");
      else if (event.key === " " || event.key === "-") answer(null, "unsure");
      else if (event.key === "Enter") {
        if (question.suggested === null) label.say("No class is suggested here: choose one by its key, or type it.");
        else answer(question.suggested);
      } else if (/^\p{L}$/u.test(event.key)) return void chooser.field.focus();  // which takes the letter
      else return;
      event.preventDefault();
    }

    current = draw;
    return {
      title: "Questions",
      content: [label.el("h1", { class: "unseen" }, "Questions"), box],
      key: press,
      update() {
        more();
        draw();
      },
    };
  };
})();
