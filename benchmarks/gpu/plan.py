"""What the parts of the plan have in common: where and how long they run, and what they have found."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sslpipe.io.errors import UserError
from sslpipe.io.files import write_json

ROOT = Path(__file__).parents[2]
"""The checkout."""
SPARE_SECONDS = 20.0
"""With less time than this no further piece of work begins (own choice: a stage takes 5 to 10 s to start)."""
PARTS = ("device", "same", "waits", "resume", "mining", "digits", "steps", "ahead", "cifar10", "few", "table")
"""All parts, in order: is it right, is it fast, does it reach its figures."""
Facts = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """One call of the plan."""

    device: torch.device
    tiny: bool
    """Whether sizes are tiny, to see that all of it runs; no figures to quote."""
    out: Path
    """Folder of results.json and of everything that the parts write; absolute."""
    images: Path | None
    """Folder with train/<class>/*.jpg and test/<class>/*.jpg of CIFAR-10; absolute."""
    training_minutes: float
    """Minutes of training in the part cifar10, over all calls; the part few has a share of it on top."""
    ends: float
    """When the call has to end, by time.monotonic()."""

    @property
    def left(self) -> float:
        """Seconds left in this call."""
        return self.ends - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether no further piece of work should begin in this call."""
        return self.left < SPARE_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What a part ends with in one call."""

    line: str
    """Its facts in one line."""
    bad: tuple[str, ...] = ()
    """What is wrong, one line each."""
    done: bool = True
    """Whether the part is complete; otherwise the next call goes on with it."""
    possible: bool = True
    """Whether the part could begin; without its images, say, another call of the same kind would not help."""


Measure = Callable[[Plan, Facts], Outcome]
"""The function `measure` of a part. facts: what the part has found so far, in earlier calls too, to which it adds."""


@dataclass
class Results:
    """The content of results.json, which is replaced as a whole after each part."""

    path: Path
    setup: dict[str, Any]
    """What all parts share: results of one file are of one device and of one size."""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Part → done, bad, line, minutes (of all calls), facts."""

    @classmethod
    def read(cls, path: Path, setup: dict[str, Any]) -> "Results":
        """Return the results so far. Raises UserError for a file that is not readable or that has another setup."""
        if not path.exists():
            return cls(path, setup)
        try:
            content = json.loads(path.read_text())
            found, parts = content["setup"], dict(content["parts"])
            complete = all({"done", "bad", "line", "minutes", "facts"} <= part.keys() for part in parts.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: not readable as results of this plan ({reason}); move it away") from None
        if not complete:
            raise UserError(f"{path}: not readable as results of this plan (a part lacks keys); move it away")
        if found != setup:
            raise UserError(f"{path}: results of {found} found, this call has {setup}; give another --out")
        return cls(path, setup, parts)

    def facts(self, part: str) -> Facts:
        """Return what a part has found so far; empty for one that has not begun."""
        found: Facts = self.parts.get(part, {}).get("facts", {})
        return found

    def keep(self, part: str, outcome: Outcome, facts: Facts, minutes: float) -> None:
        """Write the file with a part's outcome. minutes: of this call, added to those of earlier ones."""
        before = self.parts.get(part, {}).get("minutes", 0.0)
        self.parts[part] = {
            **{"done": outcome.done, "bad": list(outcome.bad), "line": outcome.line},
            **{"minutes": round(before + minutes, 2), "facts": facts},
        }
        write_json(self.path, {"setup": self.setup, "parts": self.parts})
