"""Run the pipeline of a project once for each seed and fold of labels, with one DVC cache for all runs.

Each run has a folder with links to the entries of the project, and its own settings, runs/ and dvc.lock, so that the
pipeline finds code and data as in the project. All folders share DVC's run cache, so that stages with the same inputs,
such as the pretraining of a seed for several folds, run only once.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.files import disk_errors, write_bytes
from sslpipe.io.interrupts import handled_by
from sslpipe.io.own_programs import with_own_programs
from sslpipe.io.params import Params

REPEATS = Path(".sslpipe/repeats")
"""Folder of the runs' folders, in the project."""
OWN = {".dvc", ".git", ".sslpipe", ".venv", "dvc.lock", "dvc.yaml", "params.yaml", "runs"}
"""Entries that the folders do not share with the project. dvc.yaml is copied, because DVC refuses a link."""
CONFIG = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    dir = {cache}\n"
DVC = (sys.executable, "-m", "dvc")
SET_BY_OPTION = {"seed": "--seeds", "prepare.labelled.fold": "--folds"}
"""Settings that an option of `sslpipe repeat` determines."""


@dataclass(frozen=True)
class Repeat:
    """One of several runs of the pipeline."""

    seed: int
    fold: int
    folder: Path
    """The folder that the pipeline runs in."""

    def __str__(self) -> str:
        return f"seed {self.seed}, fold {self.fold}"

    @property
    def log(self) -> Path:
        """File with the output of the last `dvc repro` in the folder."""
        return self.folder / "repro.log"


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Parse different integers ≥ 0 separated by commas, such as "0,1,2"; option: name of the option, for errors."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"{option}: '{text}' found, expected integers ≥ 0 separated by commas, such as 0,1,2")
    parsed = tuple(int(part) for part in parts)
    if len(set(parsed)) < len(parsed):
        raise UserError(f"{option}: '{text}' contains a number twice, expected different numbers")
    return parsed


def plan(project: Path, *, name: str, seeds: Sequence[int], folds: Sequence[int]) -> list[Repeat]:
    """Return the runs of all seeds and folds, ordered by seed; name: folder of this series of runs in REPEATS."""
    if name != Path(name).name or name in ("", ".."):
        raise UserError(f"--name: '{name}' found, expected the name of a folder without '/'")
    series = project / REPEATS / name
    return [Repeat(seed, fold, series / f"seed{seed}-fold{fold}") for seed in seeds for fold in folds]


def read_settings(project: Path, *, folds: Sequence[int], assignments: Sequence[str]) -> Params:
    """Return the project's params.yaml, changed by assignments ("key=value" with full dotted keys).

    Raises UserError for a key whose block is not in the file, for a key that --seeds or --folds determines, and for
    folds without prepare.labelled, since all labels are used then.
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
    has_subset = params.names("prepare.labelled")
    if tuple(folds) != (0,) and not has_subset:
        found = ",".join(map(str, folds))
        raise UserError(f"--folds: '{found}' found, expected 0: without prepare.labelled all labels are used")
    return params


def prepare_folder(project: Path, repeat: Repeat, params: Params, cache: Path) -> None:
    """Create or update the folder of a run; an existing runs/ and dvc.lock are kept.

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
    outside = _outside(project, pipeline, params.tree)
    for name, content in (("dvc.yaml", pipeline), ("params.yaml", _settings_of(repeat, params.tree))):
        text = yaml.safe_dump(_renamed(content, outside), sort_keys=False, allow_unicode=True)
        write_bytes(folder / name, text.encode())


def _outside(project: Path, pipeline: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the absolute path of each dependency, input of prepare and file of weights outside the project."""
    stages = [stage.get("do", stage) for stage in (pipeline.get("stages") or {}).values()]
    paths = [dep for stage in stages for dep in stage.get("deps", [])]
    prepare = settings.get("prepare") or {}
    paths += [path for block in prepare.values() if isinstance(block, dict) for path in block.values()]
    weights = ((settings.get("pretrain") or {}).get("frozen") or {}).get("weights")
    paths += weights if isinstance(weights, list) else [weights]
    return {path: os.path.abspath(project / path) for path in paths if isinstance(path, str) and path.startswith("../")}


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
    """Return the absolute path of the project's DVC cache; raises UserError if the folder is not a DVC project."""
    for name in ("dvc.yaml", ".dvc"):
        if not (project / name).exists():
            raise UserError(f"{project / name}: not found; run sslpipe repeat in a DVC project (see 'dvc init')")
    done = subprocess.run([*DVC, "cache", "dir"], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc cache dir: {_error_line(done.stderr)}")
    return Path(done.stdout.strip())


def run_all(project: Path, repeats: Sequence[Repeat], params: Params, targets: Sequence[str] = ()) -> None:
    """Run the pipeline, or the stages `targets` and their dependencies, in the folder of each run, one after the other.

    DVC skips stages that are up to date, so that the same call continues after a crash or Ctrl-C. Raises UserError for
    the first run that fails, and KeyboardInterrupt after the current stage has ended.
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
            info(f"{title}: stopped; the same command continues from here")
            raise
        if code:
            line = _error_line(repeat.log.read_text(encoding="utf-8", errors="replace"))
            raise UserError(f"{repeat}: dvc repro failed: {line}; its output is in {repeat.log}")
        info(f"{title}: {time.monotonic() - began:.0f} s")


def _repro(repeat: Repeat, targets: Sequence[str]) -> int:
    """Return the exit code of `dvc repro`; it has its own process group, so that a stage receives each Ctrl-C once."""
    interrupted = False
    # SIGTERM is handled as Ctrl-C, and SIGINT even in a background job of a script, which ignores it by default.
    with handled_by(signal.default_int_handler), disk_errors(repeat.log), repeat.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sslpipe.tools.child_process", "dvc", "repro", *targets],
            cwd=repeat.folder,
            env=with_own_programs(os.environ),
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


def _error_line(output: str) -> str:
    """Return the last line with a stage's error, else with DVC's error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for prefix in ("error: ", "ERROR: ", ""):
        if errors := [line for line in lines if line.startswith(prefix)]:
            return errors[-1].removeprefix(prefix)
    return "no output"
