"use strict";
// Mouse, touch and keys on the map: drag, wheel and pinch, lasso, a click, and arrow keys.

(() => {
  /* map: {points, canvas, tool, moved(), hover(i, event), leave(), click(i), lasso(polygon, done), step()} */
  report.gestures = (map) => {
    const { canvas, points } = map;
    const pointers = new Map();
    let [dragged, polygon, spread] = [0, null, 0];
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * points.ratio, (event.clientY - box.top) * points.ratio];
    };
    const reach = (event) => (map.pictured || event.pointerType === "touch" ? 18 : 7) * points.ratio + points.radius;
    const two = () => {
      const [[ax, ay], [bx, by]] = [...pointers.values()];
      return { distance: Math.hypot(ax - bx, ay - by), x: (ax + bx) / 2, y: (ay + by) / 2 };
    };

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      if (pointers.size === 1) {
        dragged = 0;
        polygon = event.shiftKey || map.tool === "lasso" ? [at(event)] : null;
      } else if (pointers.size === 2) {
        [polygon, spread] = [null, two().distance];
        map.lasso(null, false);
      }
    });

    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      const now = at(event);
      if (!before) return map.hover(points.hit(...now, reach(event)), event);
      dragged += Math.hypot(now[0] - before[0], now[1] - before[1]);
      const middle = pointers.size === 2 ? two() : null;
      pointers.set(event.pointerId, now);
      if (middle) {
        const next = two();
        points.move(next.x - middle.x, next.y - middle.y);
        points.zoomAt(next.distance / (spread || next.distance), next.x, next.y);
        spread = next.distance;
        map.moved();
      } else if (polygon) {
        polygon.push(now);
        map.lasso(polygon, false);
      } else if (dragged > 4 * points.ratio) {
        points.move(now[0] - before[0], now[1] - before[1]);
        map.leave();
        map.moved();
      }
      return undefined;
    });

    const up = (event) => {
      if (!pointers.delete(event.pointerId) || pointers.size > 0) return;
      if (polygon && dragged > 8 * points.ratio && event.type === "pointerup") map.lasso(polygon, true);
      else {
        if (polygon) map.lasso(null, false);
        const found = dragged <= 4 * points.ratio && event.type === "pointerup" ? points.hit(...at(event), reach(event)) : -1;
        if (found >= 0) map.click(found);
      }
      polygon = null;
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", map.leave);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      points.zoomAt(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.002)), ...at(event));
      map.leave();
      map.moved();
    }, { passive: false });

    canvas.addEventListener("keydown", (event) => {
      const step = 60 * points.ratio;
      const middle = [canvas.width / 2, canvas.height / 2];
      const work = {
        ArrowLeft: () => points.move(step, 0), ArrowRight: () => points.move(-step, 0),
        ArrowUp: () => points.move(0, step), ArrowDown: () => points.move(0, -step),
        "+": () => points.zoomAt(1.4), "=": () => points.zoomAt(1.4), "-": () => points.zoomAt(1 / 1.4), 0: () => points.reset(),
        Enter: () => {
          const found = points.hit(...middle, canvas.width);
          if (found >= 0) map.click(found);
        },
      }[event.key];
      if (!work || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      work();
      map.moved();
      if (event.key !== "Enter") map.step(points.hit(...middle, canvas.width));
    });
  };
})();
