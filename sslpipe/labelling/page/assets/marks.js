"use strict";
// Marks on a grid of pictures: by click, Shift and click, dragging, and keys.

(() => {
  const EDGE = 60;

  /* box: a grid of dom.grid, whose cells are buttons; changed(): after every change. Returns the marked images. */
  label.marks = (box, changed) => {
    const { grid } = box;
    const marked = new Set();
    let [anchor, base, drag, dragged, before] = [0, null, null, false, 0];

    const replace = (images) => {
      marked.clear();
      images.forEach((image) => marked.add(image));
      changed();
    };
    const between = (from, to) => grid.images.slice(Math.min(from, to), Math.max(from, to) + 1);
    /* Marks what is between the place where Shift was first pressed and another, beside what was marked before. */
    const extend = (from, to) => {
      base ??= { from, marked: [...marked] };
      replace([...base.marked, ...between(base.from, to)]);
    };
    const toggle = (place) => {
      [anchor, base] = [place, null];
      const image = grid.images[place];
      if (!marked.delete(image)) marked.add(image);
      changed();
    };

    box.addEventListener("click", (event) => {
      const cell = event.target.closest("[data-place]");
      if (!cell || dragged) return;
      const place = Number(cell.dataset.place);
      if (event.shiftKey) extend(anchor, place);
      else toggle(place);
    });

    box.addEventListener("keydown", () => (before = grid.current), true);
    box.addEventListener("keydown", (event) => {
      if (grid.current === before) return;
      if (event.shiftKey) extend(base?.from ?? before, grid.current);
      else [anchor, base] = [grid.current, null];
    });

    // The rectangle of rows and columns between two places.
    function rectangle(from, to) {
      const { across, images } = grid;
      const [rows, columns] = [[from, to].map((place) => Math.floor(place / across)), [from, to].map((place) => place % across)];
      return images.filter((_, place) => {
        const [row, column] = [Math.floor(place / across), place % across];
        return row >= Math.min(...rows) && row <= Math.max(...rows) && column >= Math.min(...columns) && column <= Math.max(...columns);
      });
    }

    function move(event) {
      const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-place]");
      if (event.clientY > innerHeight - EDGE - 60) scrollBy(0, EDGE / 2);
      else if (event.clientY < EDGE) scrollBy(0, -EDGE / 2);
      if (!cell || !box.contains(cell)) return;
      const place = Number(cell.dataset.place);
      if (place === drag.place && !dragged) return;
      dragged = true;
      const inside = rectangle(drag.place, place);
      const left = new Set(inside);
      replace(drag.on ? [...drag.marked, ...inside] : drag.marked.filter((image) => !left.has(image)));
    }

    function end() {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      if (dragged) [anchor, base] = [drag.place, null];
      drag = null;
      setTimeout(() => (dragged = false));  // after the click that ends the dragging
    }

    box.addEventListener("pointerdown", (event) => {
      const cell = event.target.closest("[data-place]");
      if (!cell || event.button !== 0 || event.shiftKey || event.pointerType === "touch") return;
      const place = Number(cell.dataset.place);
      drag = { place, on: !marked.has(grid.images[place]), marked: [...marked] };
      dragged = false;
      addEventListener("pointermove", move);
      addEventListener("pointerup", end);
      addEventListener("pointercancel", end);
    });

    return {
      marked,
      clear: () => { base = null; replace([]); },
      add: (images) => { base = null; replace([...marked, ...images]); },
      /* Forgets marks of images that are no longer in the grid. */
      only(images) {
        const there = new Set(images);
        base = null;
        for (const image of [...marked]) if (!there.has(image)) marked.delete(image);
      },
    };
  };
})();
