"""What a part of the benchmarks finds: tables, for the screen and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.measure import Spread


@dataclass(frozen=True)
class Table:
    """Figures under one heading; a Spread is shown as its median with the quartiles behind it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    """How to read it: protocol, what was checked."""

    def markdown(self) -> str:
        """As a Markdown table under its heading."""
        lines = [f"## {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|---" * len(self.columns) + "|"]
        lines += ["| " + " | ".join(_cell(each) for each in row) + " |" for row in self.rows]
        return "\n".join([*lines, ""])

    def json(self) -> dict[str, Any]:
        """As plain values."""
        rows = [[asdict(each) if isinstance(each, Spread) else each for each in row] for row in self.rows]
        return {"title": self.title, "note": self.note, "columns": list(self.columns), "rows": rows}


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure, and where."""

    device: torch.device
    quick: bool = False
    """Fewer and smaller: some seconds a part, to see that all of it runs; no figures to quote."""
