"""How costs grow with the number of images, neighbours, groups and steps: one table of all parts `growth_*`."""

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
    rows = [row for table in found for row in table.rows]
    columns = ("", "size", "CPU s before", "CPU s", "peak MB", "exponent")
    return [Table("Growth of costs, synthetic images and features", columns, rows)]
