"use strict";
// Grids of pictures: only rows near the window are there; one of a grid's pictures takes the focus, arrow keys move it.

(() => {
  const MARGIN = 500;

  /* indices: images; size: least width of a cell in px; caption: image → text or null; columns: a fixed number. */
  report.grid = (indices, { label, size = 72, caption = null, columns = null, limit = Infinity, tabIndex = 0 } = {}) => {
    const box = report.el("div", { class: "grid", role: "group", "aria-label": `${label ?? "Images"}; arrow keys move` });
    const list = indices.slice(0, limit);
    const cells = new Map();
    let [across, side, current, high] = [1, size, 0, size];

    function measure() {
      if (!box.clientWidth) return;
      across = columns ?? Math.max(1, Math.floor(box.clientWidth / size));
      side = box.clientWidth / across;
      high = side + (caption ? 20 : 0);
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
      const cell = report.picture(image, { list: indices, caption: caption?.(image, place) ?? null });
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
    report.whileShown(box, fill);
    return box;
  };

  /* Calls a function when anything scrolls, as long as the element is on the page. */
  report.whileShown = (element, work) => {
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
    document.addEventListener("scroll", listen, { capture: true, passive: true, signal: report.signal });
  };

  /* Builds an element's content when it comes near the window, and takes it away when it is far. */
  const builders = new WeakMap();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !target.firstChild) target.replaceChildren(...[builders.get(target)()].flat());
      else if (!isIntersecting && !target.contains(document.activeElement)) target.replaceChildren();
    }
  }, { rootMargin: "600px" });
  report.lazy = (element, build) => {
    builders.set(element, build);
    observer.observe(element);
    return element;
  };
})();
