"use strict";
// Grids of pictures: only rows near the window are there; one of a grid's pictures takes the focus, arrow keys move it.

(() => {
  const MARGIN = 500;

  /* images: list of them; cell: (image, place in the list) → its element, a button; size: least width of a cell in px;
     extra: height below its picture; columns: a fixed number; signal: ends the listening. Where the list changes, `grid`
     of the returned element helps. */
  dom.grid = (images, { cell: make, label, size = 72, extra = 0, columns = null, tabIndex = 0, signal = null }) => {
    const box = dom.el("div", { class: "grid", role: "group", "aria-label": `${label ?? "Images"}; arrow keys move` });
    let list = images;
    const cells = new Map();
    let [across, side, current, high] = [1, size, 0, size];

    function measure() {
      if (!box.clientWidth) return;
      across = columns ?? Math.max(1, Math.floor(box.clientWidth / size));
      side = box.clientWidth / across;
      high = side + extra;
      box.style.height = `${Math.ceil(list.length / across) * high}px`;
      cells.forEach((cell, place) => put(cell, place));
      fill();
    }

    function put(cell, place) {
      cell.style.width = `${side - 4}px`;
      cell.style.height = `${high - 4}px`;
      cell.style.transform = `translate(${(place % across) * side}px, ${Math.floor(place / across) * high}px)`;
    }

    function fill() {
      if (!box.isConnected) return;
      const { top } = box.getBoundingClientRect();
      const first = Math.max(0, Math.floor((-top - MARGIN) / high) * across);
      const end = Math.min(list.length, Math.ceil((innerHeight - top + MARGIN) / high) * across);
      for (const [place, cell] of cells) {
        if ((place < first || place >= end) && cell !== document.activeElement) {
          cell.remove();
          cells.delete(place);
        }
      }
      for (let place = first; place < end; place++) add(place);
    }

    function add(place) {
      if (cells.has(place)) return cells.get(place);
      const image = list[place];
      const cell = make(image, place);
      cell.tabIndex = place === current ? tabIndex : -1;
      cell.dataset.place = place;
      put(cell, place);
      cells.set(place, cell);
      const after = [...box.children].find((other) => Number(other.dataset.place) > place);
      box.insertBefore(cell, after ?? null);
      return cell;
    }

    function focus(place) {
      const before = cells.get(current);
      if (before) before.tabIndex = -1;
      current = Math.max(0, Math.min(list.length - 1, place));
      const cell = add(current);
      cell.tabIndex = tabIndex;
      cell.focus();
      cell.scrollIntoView({ block: "nearest" });
    }

    box.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
      const pages = { Home: 0, End: list.length - 1 };
      if (event.key in steps && current + steps[event.key] >= 0 && current + steps[event.key] < list.length)
        focus(current + steps[event.key]);
      else if (event.key in pages) focus(pages[event.key]);
      else if (!(event.key in steps)) return;
      event.preventDefault();
    });
    box.addEventListener("focusin", (event) => {
      const place = Number(event.target.dataset.place);
      if (place === current || Number.isNaN(place)) return;
      const before = cells.get(current);
      if (before) before.tabIndex = -1;
      current = place;
      event.target.tabIndex = tabIndex;
    });
    new ResizeObserver(measure).observe(box);
    dom.whileShown(box, fill, signal);
    box.grid = {
      cells, focus,
      get images() { return list; },
      get current() { return current; },
      get across() { return across; },
      /* Places of the images of which at least half is between two heights in the window. */
      between(top, bottom) {
        const start = top - box.getBoundingClientRect().top;
        const first = Math.max(0, Math.ceil(start / high - 0.5));
        const end = Math.floor((start + bottom - top) / high + 0.5);
        return [Math.min(list.length, first * across), Math.max(0, Math.min(list.length, end * across))];
      },
      /* Shows another list: an image that keeps its place keeps its element; the focus stays on its image, or else its place. */
      replace(images) {
        const [before, focused] = [list, box.contains(document.activeElement)];
        const image = before[current];
        list = images;
        const place = list.indexOf(image);
        current = Math.max(0, Math.min(list.length - 1, place >= 0 ? place : current));
        for (const [old, cell] of cells) if (list[old] !== before[old]) { cell.remove(); cells.delete(old); }
        cells.forEach((cell, old) => (cell.tabIndex = old === current ? tabIndex : -1));
        measure();
        if (focused && list.length) focus(current);
      },
    };
    return box;
  };

  /* Calls a function when anything scrolls, as long as the element is on the page. */
  dom.whileShown = (element, work, signal = null) => {
    let [asked, seen] = [false, false];
    const listen = () => {
      if (element.isConnected) seen = true;
      else if (seen) return document.removeEventListener("scroll", listen, true);
      if (asked) return undefined;
      asked = true;
      return requestAnimationFrame(() => {
        asked = false;
        work();
      });
    };
    document.addEventListener("scroll", listen, { capture: true, passive: true, ...(signal && { signal }) });
  };

  /* Builds an element's content when it comes near the window, and takes it away when it is far. */
  const builders = new WeakMap();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !target.firstChild) target.replaceChildren(...[builders.get(target)()].flat());
      else if (!isIntersecting && !target.contains(document.activeElement)) target.replaceChildren();
    }
  }, { rootMargin: "600px" });
  dom.lazy = (element, build) => {
    builders.set(element, build);
    observer.observe(element);
    return element;
  };
})();
