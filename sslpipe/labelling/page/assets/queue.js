"use strict";
// Actions on their way to the server: kept in this tab until it has confirmed them, sent in order, and sent again.

(() => {
  const KEY = `sslpipe-label-waiting ${location.pathname}`;
  const PAUSES = [500, 1000, 2000, 4000, 8000];
  const KEPT = 100;
  const REFUSED = [400, 404, 413, 415, 422];  // sent again they would be refused again
  let [sending, timer, tries] = [false, 0, 0];
  const queue = { waiting: [], trouble: null };
  let settled = [];  // the last saved ones, each with the version that it made
  label.queue = queue;
  try {
    queue.waiting = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  } catch { /* nothing can be kept: what waits is only in memory */ }

  const keep = () => {
    try { sessionStorage.setItem(KEY, JSON.stringify(queue.waiting)); } catch { /* as above */ }
  };

  /* Takes an action, shows what it will make of the page, and sends it. Returns its id. */
  label.act = (action) => {
    const id = label.random();
    queue.waiting.push({ id, ...action });
    keep();
    label.say("");
    label.acted?.(id, action);
    label.refresh();
    queue.send();
    return id;
  };

  queue.send = async () => {
    if (sending) return;
    clearTimeout(timer);
    sending = true;
    while (queue.waiting.length > 0) {
      const [action] = queue.waiting;
      const begun = label.begin();
      try {
        const reply = await label.post("act", action);
        done();
        settled.push({ ...action, version: reply.state.version });
        label.take(reply.state, begun);
        if (reply.message) label.say(reply.message);
      } catch (error) {
        if (!REFUSED.includes(error.status)) {
          queue.trouble = error;
          timer = setTimeout(queue.send, PAUSES[Math.min(tries++, PAUSES.length - 1)]);
          break;
        }
        done();
        label.refused?.(action);
        label.say(error.message, true);
      }
      label.refresh();
    }
    sending = false;
    label.refresh();
  };

  function done() {
    queue.waiting.shift();
    [queue.trouble, tries] = [null, 0];
    keep();
    settled = settled.slice(-KEPT);
  }

  /* The server answers again: no need to wait for the end of a pause, unless it has refused to save. */
  queue.wake = () => {
    if (queue.trouble?.status !== 0) return;
    tries = 0;
    queue.send();
  };

  label.post = (address, body = {}) =>
    label.get(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

  /* What is done and is not taken back by an undo after it: what waits and, with `since`, what was saved after this version. */
  label.pending = (since = Infinity) => {
    const left = [];
    for (const action of [...settled.filter((one) => one.version > since), ...queue.waiting]) {
      if (action.do === "undo") left.pop();
      else left.push(action);
    }
    return left;
  };
})();
