"use strict";
// Draws points into the pixels of a canvas, and finds the point at a place through a grid of cells.

(() => {
  const CELLS = 128;
  const WORLD = 65536;

  /* Rows [dy, from, to] of a shape of radius r, in px. */
  function stamp(shape, r) {
    const rows = [];
    const [whole, side] = [Math.ceil(r), Math.round(0.86 * r)];
    for (let dy = -whole; dy <= whole; dy++) {
      const half = {
        circle: r * r - dy * dy >= 0 ? Math.sqrt(r * r - dy * dy) : -1,
        square: Math.abs(dy) <= side ? side : -1,
        diamond: 1.2 * r - Math.abs(dy),
        triangle: dy <= r ? (dy + r) * 0.62 : -1,
      }[shape];
      if (half >= 0) rows.push([dy, -Math.round(half), Math.round(half)]);
    }
    return rows;
  }

  report.Points = class {
    /* x, y: of N points, 0 … 65535. */
    constructor(canvas, x, y) {
      Object.assign(this, { canvas, x, y, count: x.length, colors: new Uint32Array(x.length), shapes: new Uint8Array(x.length) });
      this.lit = null; // Uint8Array: points to be seen, others are faint; null: all
      this.context = canvas.getContext("2d", { alpha: false });
      this.index();
      this.reset();
    }

    index() {
      const cell = (i) => (this.y[i] >> 9) * CELLS + (this.x[i] >> 9);
      this.starts = new Uint32Array(CELLS * CELLS + 1);
      for (let i = 0; i < this.count; i++) this.starts[cell(i) + 1]++;
      for (let c = 0; c < CELLS * CELLS; c++) this.starts[c + 1] += this.starts[c];
      const next = this.starts.slice();
      this.sorted = new Uint32Array(this.count);
      for (let i = 0; i < this.count; i++) this.sorted[next[cell(i)]++] = i;
    }

    reset() {
      Object.assign(this, { zoom: 1, cx: WORLD / 2, cy: WORLD / 2 });
    }

    resize() {
      const ratio = Math.min(devicePixelRatio || 1, 2);
      const [width, height] = [Math.round(this.canvas.clientWidth * ratio), Math.round(this.canvas.clientHeight * ratio)];
      if (!width || !height || (this.pixels && width === this.canvas.width && height === this.canvas.height)) return;
      Object.assign(this.canvas, { width, height });
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.ratio = ratio;
    }

    /* Pixels of the canvas per unit of the map. */
    get scale() {
      return (this.zoom * 0.94 * Math.min(this.canvas.width, this.canvas.height)) / WORLD;
    }

    toScreen(i) {
      return [(this.x[i] - this.cx) * this.scale + this.canvas.width / 2, (this.y[i] - this.cy) * this.scale + this.canvas.height / 2];
    }

    toMap(px, py) {
      return [(px - this.canvas.width / 2) / this.scale + this.cx, (py - this.canvas.height / 2) / this.scale + this.cy];
    }

    move(dx, dy) {
      this.cx = Math.max(0, Math.min(WORLD, this.cx - dx / this.scale));
      this.cy = Math.max(0, Math.min(WORLD, this.cy - dy / this.scale));
    }

    /* Zooms by a factor; the place at (px, py) stays there. */
    zoomAt(factor, px = this.canvas.width / 2, py = this.canvas.height / 2) {
      const [mx, my] = this.toMap(px, py);
      this.zoom = Math.max(0.5, Math.min(400, this.zoom * factor));
      const [nx, ny] = this.toMap(px, py);
      this.cx = Math.max(0, Math.min(WORLD, this.cx + mx - nx));
      this.cy = Math.max(0, Math.min(WORLD, this.cy + my - ny));
    }

    get radius() {
      const base = this.count > 20_000 ? 1.4 : this.count > 4_000 ? 2 : 3.2;
      return Math.min(9, base * Math.max(1, this.zoom) ** 0.45) * this.ratio;
    }

    draw() {
      if (!this.pixels) return;
      this.pixels.fill(report.pixel(report.ground()));
      const stamps = report.SHAPES.map((shape) => stamp(shape, this.radius));
      const faint = report.pixel(report.faint());
      if (this.lit) this.stampAll(stamps, (i) => (this.lit[i] ? 0 : faint));
      this.stampAll(stamps, this.lit ? (i) => (this.lit[i] ? this.colors[i] : 0) : (i) => this.colors[i]);
      this.context.putImageData(this.image, 0, 0);
    }

    stampAll(stamps, color) {
      const { width, height } = this.canvas;
      const { x, y, pixels, shapes, scale, count } = this;
      const [ox, oy, margin] = [width / 2 - this.cx * scale, height / 2 - this.cy * scale, Math.ceil(this.radius) * 1.3 + 1];
      for (let i = 0; i < count; i++) {
        const [px, py] = [Math.round(x[i] * scale + ox), Math.round(y[i] * scale + oy)];
        if (px < margin || py < margin || px >= width - margin || py >= height - margin) continue;
        const value = color(i);
        if (value === 0) continue;
        const rows = stamps[shapes[i]];
        for (let r = 0; r < rows.length; r++) {
          const start = (py + rows[r][0]) * width + px;
          for (let p = start + rows[r][1], end = start + rows[r][2]; p <= end; p++) pixels[p] = value;
        }
      }
    }

    /* Calls a function with each point of a rectangle of the map. */
    within(left, top, right, bottom, visit) {
      const clip = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor(value / 512)));
      for (let row = clip(top); row <= clip(bottom); row++) {
        for (let k = this.starts[row * CELLS + clip(left)]; k < this.starts[row * CELLS + clip(right) + 1]; k++) {
          const i = this.sorted[k];
          if (this.x[i] >= left && this.x[i] <= right && this.y[i] >= top && this.y[i] <= bottom) visit(i);
        }
      }
    }

    /* The nearest point to a place on the canvas, at most `reach` px away; -1: none. */
    hit(px, py, reach) {
      const [mx, my] = this.toMap(px, py);
      const far = reach / this.scale;
      let [best, least] = [-1, far * far];
      this.within(mx - far, my - far, mx + far, my + far, (i) => {
        const distance = (this.x[i] - mx) ** 2 + (this.y[i] - my) ** 2;
        if ((distance <= least) && (!this.lit || this.lit[i])) [best, least] = [i, distance];
      });
      return best;
    }

    /* Points on the canvas, at most `limit`, or null if there are more. */
    visible(limit = Infinity) {
      const found = [];
      const [from, to] = [this.toMap(0, 0), this.toMap(this.canvas.width, this.canvas.height)];
      this.within(...from, ...to, (i) => found.length <= limit && (!this.lit || this.lit[i]) && found.push(i));
      return found.length > limit ? null : found;
    }

    /* Points inside a polygon [[px, py], …] of the canvas (even-odd rule). */
    inside(polygon) {
      const corners = polygon.map(([px, py]) => this.toMap(px, py));
      const [xs, ys] = [corners.map((corner) => corner[0]), corners.map((corner) => corner[1])];
      const found = [];
      this.within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (i) => {
        if (this.lit && !this.lit[i]) return;
        let odd = false;
        for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
          if (ys[a] > this.y[i] !== ys[b] > this.y[i]
            && this.x[i] < ((xs[b] - xs[a]) * (this.y[i] - ys[a])) / (ys[b] - ys[a]) + xs[a]) odd = !odd;
        }
        if (odd) found.push(i);
      });
      return found.sort((a, b) => a - b);
    }
  };
})();
