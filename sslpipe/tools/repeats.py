"""The same project run several times, once for every seed and fold of labels, with one cache for all of them.

Each run has a folder whose entries are links to the project's own, save its settings, its runs/ and its dvc.lock. The
pipeline finds code and data there as in the project itself, and DVC's run-cache, which all folders share, computes
once what several runs have in common, such as a seed's pretraining over its folds.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.files import disk_errors, write_bytes
from sslpipe.io.params import Params

REPEATS = Path(".sslpipe/repeats")
"""Where the folders lie, within the project."""
OWN = {".dvc", ".git", ".sslpipe", ".venv", "dvc.lock", "dvc.yaml", "params.yaml", "runs"}
"""What no folder shares with the project. dvc.yaml is written anew, for DVC refuses a link."""
CONFIG = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    dir = {cache}\n"
DVC = (sys.executable, "-m", "dvc")
SET_BY_OPTION = {"seed": "--seeds", "prepare.labelled.fold": "--folds"}


@dataclass(frozen=True)
class Repeat:
    """One run of the pipeline among several."""

    seed: int
    fold: int
    folder: Path
    """The project folder that it runs in."""

    def __str__(self) -> str:
        return f"seed {self.seed}, fold {self.fold}"

    @property
    def log(self) -> Path:
        """What `dvc repro` printed when it last ran there."""
        return self.folder / "repro.log"


def numbers(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers ≥ 0 of a list such as "0,1,2", each at most once. option: its name, for the error."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"{option}: '{text}' found, expected whole numbers at least 0 with commas between, like 0,1,2")
    found = tuple(int(part) for part in parts)
    if len(set(found)) < len(found):
        raise UserError(f"{option}: '{text}' names a number twice, expected different ones")
    return found


def plan(project: Path, *, name: str, seeds: Sequence[int], folds: Sequence[int]) -> list[Repeat]:
    """All combinations, a seed's folds in a row. name: the folder of this series of runs within REPEATS."""
    if name != Path(name).name or name in ("", ".."):
        raise UserError(f"--name: '{name}' found, expected a plain name for a folder")
    series = project / REPEATS / name
    return [Repeat(seed, fold, series / f"seed{seed}-fold{fold}") for seed in seeds for fold in folds]


def read_settings(project: Path, *, folds: Sequence[int], assignments: Sequence[str]) -> Params:
    """The project's params.yaml with the assignments ("key=value", keys from the top of the file) laid over it.

    Raises UserError for a key whose block is not in the file, one that --seeds or --folds decides, and for folds where
    all images are labelled, so that there is nothing to draw.
    """
    params = Params(project / "params.yaml")
    for text in assignments:
        key, equals, _ = text.partition("=")
        block = key.split(".")[0]
        if key in SET_BY_OPTION:
            raise UserError(f"--set {text}: '{key}' is set by {SET_BY_OPTION[key]}")
        if equals and block not in params.tree:
            raise UserError(f"--set {text}: unknown key '{block}'{nearest(block, map(str, params.tree))}")
    params.override({}, list(assignments))
    drawn = params.names("prepare.labelled")
    if tuple(folds) != (0,) and not drawn:
        found = ",".join(map(str, folds))
        raise UserError(f"--folds: '{found}' found, expected 0: without prepare.labelled all labels are used")
    return params


def prepare_folder(project: Path, repeat: Repeat, params: Params, cache: Path) -> None:
    """Make the folder of a run, or bring the one that is there up to date; its runs/ and dvc.lock stay.

    cache: absolute path of the project's DVC cache.
    """
    folder = repeat.folder
    with disk_errors(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        shared = {path.name: path.absolute() for path in project.iterdir() if path.name not in OWN}
        for link in folder.iterdir():
            if link.is_symlink() and link.readlink() != shared.get(link.name):
                link.unlink()
        for name, path in shared.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(path)
    write_bytes(folder / ".dvc" / "config", CONFIG.format(cache=cache).encode())
    pipeline = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))
    outside = _outside(project, pipeline)
    for name, content in (("dvc.yaml", pipeline), ("params.yaml", _settings_of(repeat, params.tree))):
        text = yaml.safe_dump(_renamed(content, outside), sort_keys=False, allow_unicode=True)
        write_bytes(folder / name, text.encode())


def _outside(project: Path, pipeline: Mapping[str, Any]) -> dict[str, str]:
    """Deps that lie beside the project, such as ../photos → their absolute paths: the runs' folders lie elsewhere."""
    stages = [stage.get("do", stage) for stage in (pipeline.get("stages") or {}).values()]
    deps = [dep for stage in stages for dep in stage.get("deps", []) if isinstance(dep, str)]
    return {dep: os.path.abspath(project / dep) for dep in deps if Path(dep).parts[:1] == ("..",)}


def _renamed(content: Any, names: Mapping[str, str]) -> Any:
    """Settings, or a pipeline, with other texts in the place of some."""
    if isinstance(content, dict):
        return {key: _renamed(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_renamed(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content


def _settings_of(repeat: Repeat, tree: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**deepcopy(tree), "seed": repeat.seed}
    if (settings.get("prepare") or {}).get("labelled"):
        settings["prepare"]["labelled"]["fold"] = repeat.fold
    return settings


def cache_folder(project: Path) -> Path:
    """Absolute path of the project's DVC cache; UserError where the folder is no DVC project."""
    for name in ("dvc.yaml", ".dvc"):
        if not (project / name).exists():
            raise UserError(f"{project / name}: not found; run sslpipe repeat in a DVC project ('dvc init' makes one)")
    asked = subprocess.run([*DVC, "cache", "dir"], cwd=project, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise UserError(f"dvc cache dir: {_error_line(asked.stderr)}")
    return Path(asked.stdout.strip())


def run_all(project: Path, repeats: Sequence[Repeat], params: Params, targets: Sequence[str] = ()) -> None:
    """Run the pipeline, or the stages `targets` and what they need, in the folder of each run, one after the other.

    What is done already is passed over by DVC, so that the same call goes on after a crash or Ctrl-C. Raises UserError
    for the first run that fails, KeyboardInterrupt after the stage under way has ended.
    """
    cache = cache_folder(project)
    for place, repeat in enumerate(repeats, start=1):
        title = f"{repeat} ({place} of {len(repeats)})"
        prepare_folder(project, repeat, params, cache)
        info(f"{title}: running, log in {repeat.log}")
        began = time.monotonic()
        try:
            code = _repro(repeat, targets)
        except KeyboardInterrupt:
            info(f"{title}: stopped; the same command goes on from here")
            raise
        if code:
            line = _error_line(repeat.log.read_text(encoding="utf-8", errors="replace"))
            raise UserError(f"{repeat}: dvc repro failed: {line}; its output is in {repeat.log}")
        info(f"{title}: {time.monotonic() - began:.0f} s")


def _repro(repeat: Repeat, targets: Sequence[str]) -> int:
    """Exit code of `dvc repro`. It has a process group of its own, so that each Ctrl-C reaches a stage exactly once."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    interrupted = False
    with _interruptible(), repeat.log.open("wb") as log:
        process = subprocess.Popen(
            [*DVC, "repro", *targets],
            cwd=repeat.folder,
            env={**os.environ, "PATH": path},  # dvc.yaml's commands are found without an activated environment
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
    if interrupted:
        raise KeyboardInterrupt
    return code


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM is as Ctrl-C; and SIGINT is heard, also by children, where a script's background job ignores it."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _error_line(output: str) -> str:
    """The line that says best what went wrong: a stage's own error, else DVC's, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for prefix in ("error: ", "ERROR: ", ""):
        if found := [line for line in lines if line.startswith(prefix)]:
            return found[-1].removeprefix(prefix)
    return "no output"
