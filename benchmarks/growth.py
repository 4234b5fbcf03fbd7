"""How costs grow with the number of images, neighbours, groups and steps: a table for each form of rows."""

import importlib
from importlib.util import find_spec

from benchmarks.report import Options, Table

PARTS = ("growth_search", "growth_training", "growth_evaluation")


def measure(options: Options) -> list[Table]:
    names = [f"benchmarks.{name}" for name in PARTS]
    found = [table for name in names if find_spec(name) for table in importlib.import_module(name).measure(options)]
    # Tables of the same columns are one.
    merged = []
    for columns in dict.fromkeys(tuple(table.columns) for table in found):
        same = [table for table in found if tuple(table.columns) == columns]
        rows = [row for table in same for row in table.rows]
        title, note = "; ".join(table.title for table in same), " ".join(table.note for table in same if table.note)
        merged.append(Table(title, columns, rows, note))
    return merged
