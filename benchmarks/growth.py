"""How costs grow with images, neighbours, groups and steps: all parts `growth_*`, a table for each form of rows."""

import importlib
import pkgutil

import benchmarks
from benchmarks.report import Options, Table


def measure(options: Options) -> list[Table]:
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    found = [
        table
        for name in names
        if name.startswith("growth_")
        for table in importlib.import_module(f"benchmarks.{name}").measure(options)
    ]
    # Tables of the same columns are one.
    columns = dict.fromkeys(tuple(table.columns) for table in found)
    merged = []
    for each in columns:
        same = [table for table in found if tuple(table.columns) == each]
        rows = [row for table in same for row in table.rows]
        title, note = "; ".join(table.title for table in same), " ".join(table.note for table in same if table.note)
        merged.append(Table(title, each, rows, note))
    return merged
