"""What the plan has found as Markdown tables for docs/results.md and docs/speed.md, and what is missing."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.gpu.plan import PARTS, Facts, Outcome, Plan
from benchmarks.report import Table
from sslpipe.io.console import info
from sslpipe.io.files import read_json

SHOWN = ("acc", "cluster_acc", "nmi", "ari")
MODELS = ("digits", "cifar10", "few")
"""Parts that end with the metrics of models."""
Parts = Mapping[str, Mapping[str, Any]]


def hardware(parts: Parts) -> str:
    """Return the device and torch's version."""
    facts = parts.get("device", {}).get("facts", {})
    return f"{facts['device']}, torch {facts['torch']}" if facts else "unknown"


def models(parts: Parts) -> Table:
    """Return a row for each metric of each model; in `few`, of the models that the part has trained."""
    rows: list[list[Any]] = []
    for part in MODELS:
        found = parts.get(part, {})
        for model, row in found.get("facts", {}).get("metrics", {}).items():
            if "/" in model or (part == "few" and "." not in model):
                continue
            rows += [
                [part, model, name, f"{row[name]:.3f}", row["protocol"], row["seed"], found["minutes"]]
                for name in SHOWN
                if name in row
            ]
    columns = ("data", "model", "metric", "value", "protocol", "seeds", "minutes of the part")
    lengths = [f"{part}: {name} {parts[part]['facts'][name]}" for part in MODELS if part in parts
               for name in ("epochs", "steps") if name in parts[part]["facts"]]  # fmt: skip
    return Table("Models", columns, rows, "; ".join([hardware(parts), *lengths]) + ".")


def speeds(parts: Parts) -> Table:
    """Return a row for each step that was measured, and for mining."""
    rows: list[list[Any]] = []
    for name, (table, *_) in parts.get("steps", {}).get("facts", {}).items():
        if name.startswith("step "):
            for method, batch, *_, step, bare, over in table["rows"]:
                ratio = f"{over['median']:.2f} ({over['low']:.2f} to {over['high']:.2f})"
                rows.append([f"{method}, batch {batch}", f"step {step:.3g} ms", f"bare {bare:.3g} ms", ratio])
    for name, each in parts.get("ahead", {}).get("facts", {}).items():
        times = [f"{key} {value:.3g} ms" for key, value in each["ms"].items()]
        rows.append([f"{name}, views", *times, f"{each['ratio']:.2f}"])
    for size, each in parts.get("mining", {}).get("facts", {}).items():
        rows.append([f"mining {size}", f"{each['seconds']:.2f} s", f"{each['images_per_second']:,.0f} images/s", ""])
    return Table("Speed", ("what", "", "beside", "over"), rows, f"{hardware(parts)}.")


def missing(parts: Parts, names: Iterable[str]) -> list[str]:
    """Return what is not complete or is wrong, one line each."""
    found = []
    for name in names:
        part = parts.get(name)
        if part is None:
            found.append(f"{name}: not begun")
        elif not part["done"]:
            found.append(f"{name}: not complete: {part['line']}")
        found += [f"{name}: BAD: {each}" for each in (part or {}).get("bad", [])]
    return found


def measure(plan: Plan, facts: Facts) -> Outcome:
    path = plan.out / "results.json"
    parts: Parts = read_json(path)["parts"] if path.exists() else {}
    for table in (models(parts), speeds(parts)):
        info(f"\n{table.markdown()}" if table.rows else f"{table.title}: nothing yet")
    absent = missing(parts, [name for name in PARTS if name != "table"])
    for line in absent:
        info(f"missing: {line}")
    return Outcome(f"{len(absent)} missing or wrong" if absent else "complete")
