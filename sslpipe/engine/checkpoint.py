"""Checkpoints of an unfinished stage: restored after a crash and deleted when the stage's outputs are written."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sslpipe.data import world
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.tensor_file import write_tensors
from sslpipe.io.console import info
from sslpipe.io.errors import UserError, one_line
from sslpipe.io.files import atomic_file, sha256
from sslpipe.io.locks import lock
from sslpipe.io.saving import SECONDS, Saving

FOLDER = ".sslpipe/checkpoints"


@dataclass
class State:
    """State of a training run, apart from its weights and its optimiser."""

    step: int = 0
    """Number of steps done."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per interval, see `FitSettings`."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Name of a term of the loss → its sum over the steps of the current interval."""
    first: dict[str, Tensor] = field(default_factory=dict)
    """Name of a term of the loss → its value at the first step, before any update."""
    finished: bool = False
    pace: list[dict[str, float]] = field(default_factory=list)
    """One row per interval of what differs between equal runs, such as times: part of no output, see engine/live.py."""
    seconds_before: float = 0.0
    """Seconds of training in earlier processes."""
    began: float = field(default_factory=time.monotonic)
    """When the training began in this process."""

    @property
    def seconds(self) -> float:
        """Seconds of training so far, in all processes."""
        return self.seconds_before + time.monotonic() - self.began

    def add(self, terms: dict[str, Tensor]) -> None:
        """Count a step with the terms of its loss, which are scalars on the device."""
        if not self.step:
            self.first = {name: value.clone() for name, value in terms.items()}
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.step += 1


class Checkpoint:
    """The checkpoint of one run, in a folder named by a hash of the stage's settings, code and inputs.

    A run with other settings, code or inputs has another folder, so it never restores this checkpoint. In a `with`
    block the folder is locked: a second run with the same settings, and another output, trains without checkpoints.
    A checkpoint that takes long is written less often, see `Saving`. Of several processes that train together, all
    read it and process 0 writes it; it does not depend on their number.
    """

    def __init__(self, folder: Path | None, every_seconds: float) -> None:
        """folder: None saves nothing.

        every_seconds: minimum number of seconds between checkpoints; 0: after every step, whatever it costs.
        """
        self.folder = folder
        self.every_seconds = every_seconds
        self._saving = Saving(every_seconds)
        self._step = 0
        self._warned = False
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        """Lock the folder, or print that another process has it; of several processes that train together, for all."""
        if self.folder is not None and not world.rank():
            try:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                self._lock.enter_context(lock(self.folder))
            except UserError as error:
                info(f"{error}; this run has no checkpoint and is lost if it is stopped")
                self.folder = None
            except OSError:  # a full disk: there may be a checkpoint to restore, and `save` prints that it failed
                pass
        if world.anywhere(self.folder is None):
            self.folder = None
        return self

    def __exit__(self, *error: object) -> None:
        """Release the lock."""
        self._lock.close()

    @classmethod
    def of_stage(
        cls, stage: str, *, settings: Iterable[Any], inputs: Iterable[Path], every_seconds: float = SECONDS
    ) -> "Checkpoint":
        """Return the checkpoint of a stage, in a git-ignored folder of the project that is outside every output.

        settings: all settings that the result depends on; their repr must state all values. inputs: files that the
        result depends on.
        """
        content = [repr(list(settings)), *(sha256(path) for path in inputs), _code(stage)]
        key = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]
        # `dvc exp run --temp` works in a temporary folder; DVC_ROOT is the folder of the project.
        root = Path(os.environ.get("DVC_ROOT", "."))
        return cls(root / FOLDER / f"{stage}-{key}", every_seconds)

    def due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return self.folder is not None and not world.rank() and self._saving.due()

    def save(self, state: State, method: BaseMethod, optimizer: torch.optim.Optimizer) -> None:
        """Write the complete state of the run, atomically.

        If it cannot be written the run goes on, since its outputs may be on another disk; a line says so once.
        """
        if self.folder is None or world.rank():
            return
        tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
        tensors |= {f"sums.{name}": value for name, value in state.sums.items()}
        tensors |= {f"first.{name}": value for name, value in state.first.items()}
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items() if value is not None}
        # The order of the terms is that of the history's columns; the file has its tensors in another one.
        plain = {
            **{"step": state.step, "history": state.history, "finished": state.finished, "terms": list(state.sums)},
            **{"pace": state.pace, "seconds": state.seconds},
        }
        with self._saving.timed():
            try:
                with atomic_file(self.folder / "run.safetensors") as partial:
                    write_tensors(partial, tensors, {"state": json.dumps(plain)})
                self._step, self._warned = state.step, False
            except UserError as error:
                if not self._warned:
                    info(f"{error}; the run goes on, but if it is stopped it resumes after step {self._step}")
                self._warned = True

    def stop(self, text: str) -> NoReturn:
        """Print `text` and where the next run begins, and raise KeyboardInterrupt."""
        info(f"{text}; the next run resumes after step {self._step}" if self._step else f"{text}; nothing is saved")
        raise KeyboardInterrupt

    def load(self, method: BaseMethod, optimizer: torch.optim.Optimizer) -> State:
        """Restore the run from its checkpoint; return a new State if there is none, or none that can be read."""
        path = self.folder / "run.safetensors" if self.folder else None
        try:
            if path is None or not path.exists():
                return State()
            with safe_open(path, framework="pt") as file:
                plain = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        except (SafetensorError, OSError) as error:
            info(f"{path}: not readable ({one_line(error)}), so the run starts from the beginning")
            return State()
        method.load_state_dict(_under("method.", tensors))
        optimizer_state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            number, key = name.split(".", 1)
            optimizer_state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": optimizer_state})
        _lay_out_like_weights(optimizer)
        device = next(method.parameters()).device
        self._step = plain["step"]
        sums = {name: tensors[f"sums.{name}"].to(device) for name in plain["terms"]}
        first = {name: value.to(device) for name, value in _under("first.", tensors).items()}
        return State(
            step=plain["step"],
            history=plain["history"],
            sums=sums,
            first=first,
            finished=plain["finished"],
            pace=plain["pace"],
            seconds_before=plain["seconds"],
        )

    def remove(self) -> None:
        """Delete the checkpoint, after the outputs are written."""
        if self.folder is not None and not world.rank():
            shutil.rmtree(self.folder, ignore_errors=True)


def _lay_out_like_weights(optimizer: torch.optim.Optimizer) -> None:
    """Give each weight's state the memory format of the weight: fused kernels match their elements by memory offset."""
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight).copy_(value)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _code(stage: str) -> str:
    """Return the hashes of this project's modules that the process has loaded, without the modules of other stages.

    Those of --log are left out as well: they change no result, and a run may be resumed with other ones.
    """
    own = f"stages.{stage.replace('-', '_')}"
    names = sorted(name for name in sys.modules if name.startswith("sslpipe.") or name == own)
    names = [name for name in names if not name.startswith("sslpipe.engine.logs")]
    files = [Path(file) for name in names if (file := getattr(sys.modules[name], "__file__", None))]
    return "".join(sha256(file) for file in files)
