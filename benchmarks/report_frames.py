"""Frames a second of the report's map, and seconds to its first view, in Chromium with its network off."""

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Spread
from benchmarks.report import Options, Table

PAN = """(seconds) => new Promise((resolve) => {
    const { points, moved } = report.openMap;
    const [times, work] = [[], []];
    const draw = points.draw.bind(points);
    points.draw = () => { const start = performance.now(); draw(); work.push(performance.now() - start); };
    const step = (now) => {
        times.push(now);
        const turn = times.length / 20;
        points.move(6 * Math.cos(turn), 6 * Math.sin(turn));
        points.zoomAt(1 + 0.02 * Math.sin(turn / 3));
        moved();
        if (now - times[0] < 1000 * seconds) requestAnimationFrame(step);
        else resolve([times.slice(1).map((time, i) => time - times[i]), work]);
    };
    requestAnimationFrame(step);
})"""
"""Pans and zooms the map, a little in each frame; milliseconds between frames and of drawing alone."""


def measure(options: Options) -> list[Table]:
    # The tests' browser and their made-up projects.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests/reporting"))
    from browser import browser, go, opened
    from example import example, gradients, write_example

    count, seconds = (2000, 1) if options.quick else (50_000, 10)
    rows, first = [], []
    with tempfile.TemporaryDirectory() as name, browser() as launched:
        classes = [f"class {number}" for number in range(10)]
        index = write_example(Path(name), *example(count, 10, classes=classes), gradients(count))
        for width, height, ratio in ((1440, 900, 1), (1440, 900, 2), (390, 844, 3)):
            with opened(launched, index, "#map", width=width, height=height, device_scale_factor=ratio) as tab:
                tab.wait_for_function("() => report.openMap?.points.pixels")
                frames, work = tab.evaluate(PAN, seconds)
                rate = 1000 * len(frames) / sum(frames)
                rows.append(
                    [f"{width} × {height}, ratio {ratio}", rate, Spread.of(frames), max(frames), Spread.of(work)]
                )
        for _ in range(1 if options.quick else 5):
            with opened(launched, index) as tab:
                tab.goto("about:blank")
                go(tab, index, "#groups")
                tab.wait_for_selector(".card .picture")
                first.append(tab.evaluate("performance.now()") / 1000)
    columns = ("window", "frames/s", "ms between frames", "longest, ms", "ms of drawing")
    note = "Panned and zoomed in every frame, by requestAnimationFrame's own times."
    return [
        Table(f"The report's map, {count} images", columns, rows, note),
        Table("First view of the groups", ("seconds from opening to pictures",), [[Spread.of(first)]]),
    ]
