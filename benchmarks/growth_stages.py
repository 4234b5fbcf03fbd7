"""How the cost of each stage grows: `python -m benchmarks.growth_stages FOLDER`.

Writes a project of stored features for each size (see `benchmarks.feature_scale`), with a tenth as many held-out and
test images, runs every stage from mine-neighbors on, each as a process of its own, and prints CPU seconds, less those
of a process that does nothing, memory beside mapped files, and the exponent of the number of images between the two
largest sizes. `--images 1000,10000,50000 --classes 10,100,1000 --stages …`. What was measured before is used again.
"""

import argparse
import json
import math
from pathlib import Path

from benchmarks.feature_scale import STAGES, Size, run, write_project
from benchmarks.report import Table

MEASURED = {
    **{
        name: STAGES[name]
        for name in ("mine-neighbors", "cluster scan_heads", "self-label neighbors", "semisup propagation")
    },
    "finetune linear": "finetune --method linear",
    "evaluate": "evaluate",
    "report": "report",
    "ask": "ask --budget 100",
    "estimate-clusters": STAGES["estimate-clusters"],
}
"""Stage or command → its command, in the order of the pipeline."""
LABELS = 4
"""Labels of each class."""
IDLE = "table --help"
"""A command that does nothing but start."""


def measure(folder: Path, images: list[int], classes: list[int], stages: list[str]) -> list[Table]:
    """Run all stages at all sizes; a table of CPU seconds and one of memory. What was measured is in growth.json."""
    done = folder / "growth.json"
    found: dict[str, list[float]] = json.loads(done.read_text()) if done.exists() else {}
    for groups in classes:
        for count in images:
            if count < 2 * groups:
                continue
            project = folder / f"{count}-{groups}"
            if not project.exists():
                write_project(project, Size(count, groups, LABELS, count // 10, count // 10))
            for stage in stages:
                key = f"{stage}|{groups}|{count}"
                if key not in found:
                    seconds, own, _ = run(MEASURED[stage], project, project / "log.txt")
                    idle = found.setdefault("idle", [run(IDLE, project, project / "log.txt")[0]])[0]
                    found[key] = [max(seconds - idle, 0.01), own]
                    print(f"{key}: {found[key][0]:.1f} s, {own:.2f} GB", flush=True)
                    done.write_text(json.dumps(found, indent=1))
    return [_table(found, images, classes, stages, place) for place in (0, 1)]


def _table(
    found: dict[str, list[float]], images: list[int], classes: list[int], stages: list[str], place: int
) -> Table:
    columns = ["stage", "groups", *(f"{count:,}" for count in images)]
    rows = []
    for stage in stages:
        for groups in classes:
            values = [found.get(f"{stage}|{groups}|{count}") for count in images]
            row = [stage, groups, *("-" if value is None else round(value[place], 2) for value in values)]
            if place == 0:
                last = [(count, value[0]) for count, value in zip(images, values, strict=True) if value][-2:]
                row.append(round(_exponent(last), 2) if len(last) == 2 else "-")
            rows.append(row)
    if place == 0:
        columns.append("exponent")
    return Table("CPU seconds" if place == 0 else "memory, GB", tuple(columns), rows)


def _exponent(pairs: list[tuple[int, float]]) -> float:
    (few, short), (many, long) = pairs
    return math.log(long / short) / math.log(many / few)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", default="1000,10000,50000")
    parser.add_argument("--classes", default="10,100,1000")
    parser.add_argument("--stages", default=",".join(MEASURED))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    numbers = [[int(each) for each in text.split(",")] for text in (given.images, given.classes)]
    for table in measure(given.folder, *numbers, given.stages.split(",")):
        print(f"\n{table.markdown()}")


if __name__ == "__main__":
    main()
