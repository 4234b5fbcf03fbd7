"""Stages that are killed at random moments and run again, beside an undisturbed run: `python -m benchmarks.kills`.

A project of the digits with small budgets runs whole once. Then, again and again, a stage starts, directly or by `dvc
repro`, receives a signal at a random moment and, after its end, runs again to its own end. All files of runs/ must then
be those of the undisturbed run, byte for byte but for the times in runs/live, and no process, partial folder or
checkpoint may be left. In between, the live history must be readable and have every row that the checkpoint has.
`--kills 60 --seed 0` are the defaults; a seed gives the same stages, signals and shares of a stage's time.
`--on-features` kills the methods on stored features instead of those that train a network. Linux only: processes are
found in /proc. A stage that runs directly is forked from a process that has loaded torch already, so that most signals
come while it works; by DVC it starts as always. On two idle cores 60 kills take about 5 minutes.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import torch
import yaml
from safetensors import safe_open

from sslpipe.engine.checkpoint import FOLDER
from sslpipe.engine.live import HISTORY, PACE
from sslpipe.running.watching import live_folder
from stages.__main__ import app

ROOT = Path(__file__).parents[1]
TRAINING = "--checkpoint-seconds 0.2"
STAGES = {
    "prepare": "prepare",
    "pretrain": f"pretrain {TRAINING}",
    "features": f"features {TRAINING}",
    "mine-neighbors": "mine-neighbors",
    "cluster": f"cluster {TRAINING}",
    "self-label": f"self-label {TRAINING}",
    "semisup@supervised": f"semisup --method supervised {TRAINING}",
    "semisup@fixmatch": f"semisup --method fixmatch {TRAINING}",
    "finetune@linear": f"finetune --method linear {TRAINING}",
    "evaluate": "evaluate",
    "report": "report",
}
"""Stage → its command, in the order of the pipeline."""
ON_FEATURES = {
    **{name: STAGES[name] for name in ("prepare", "pretrain", "features", "mine-neighbors")},
    "cluster": f"cluster --method scan_heads {TRAINING}",
    "cluster-kmeans": f"cluster --method kmeans --out runs/cluster-kmeans {TRAINING}",
    "cluster-spectral": f"cluster --method spectral --out runs/cluster-spectral {TRAINING}",
    "self-label": f"self-label --method neighbors {TRAINING}",
    "semisup@propagation": f"semisup --method propagation {TRAINING}",
    "evaluate": "evaluate",
}
"""The same with the methods on stored features."""
WAIT = 60.0
"""Seconds in which a process has to end after a signal that it may handle."""


@dataclass(frozen=True)
class Kind:
    """A way to end a stage."""

    name: str
    signal: signal.Signals
    by_dvc: bool = False
    """Whether `dvc repro` runs the stage; the signal goes to dvc."""
    group: bool = False
    """Whether all processes of the group receive the signal, as after Ctrl-C in a terminal."""


DIRECT = [
    Kind("SIGKILL to the stage", signal.SIGKILL),
    Kind("SIGTERM to the stage", signal.SIGTERM),
    Kind("SIGHUP to the stage", signal.SIGHUP),
    Kind("SIGINT to the stage", signal.SIGINT, group=True),
]
BY_DVC = [
    Kind("SIGTERM to dvc", signal.SIGTERM, by_dvc=True),
    Kind("SIGKILL to dvc", signal.SIGKILL, by_dvc=True),
    Kind("SIGINT to dvc and the stage", signal.SIGINT, by_dvc=True, group=True),
]
KINDS = [*DIRECT * 3, *BY_DVC]
"""What comes equally often; DVC takes much longer."""


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["stages.__main__", __name__])


class Forked:
    """A command of sslpipe in a fork of a process that has only loaded it, with what is needed of `subprocess.Popen`.

    This process itself may have run a deep backward pass, after which torch refuses one in a fork.
    """

    def __init__(self, arguments: list[str], folder: Path, output: Path) -> None:
        """Start the command. folder: its working folder; output: file of what it prints."""
        self._process = _SERVER.Process(target=_command, args=(arguments, folder, output), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        with suppress(OSError):
            os.setpgid(self.pid, self.pid)

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for the exit code."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def _command(arguments: list[str], folder: Path, output: Path) -> None:
    """Run a command of sslpipe in this process, in a process group of its own."""
    os.setpgid(0, 0)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.chdir(folder)
    torch.set_num_threads(1)  # a fork has none of OpenMP's threads
    app(arguments)


@dataclass
class Outcome:
    """What happened after one kill."""

    stage: str
    kind: Kind
    after: float
    """Seconds from the start to the signal."""
    killed: bool = False
    """Whether the process was still there."""
    resumed: bool = False
    """Whether the second run resumed from a checkpoint."""
    faults: list[str] = field(default_factory=list)


def small(tree: dict[str, object]) -> dict[str, object]:
    """Return settings with few epochs and small images."""

    def short(block: object) -> object:
        if not isinstance(block, dict):
            return block
        return {key: {**value, "epochs": 10} if key == "fit" else short(value) for key, value in block.items()}

    shortened = short(tree)
    assert isinstance(shortened, dict)
    shortened["prepare"] |= {"size": 8}
    shortened["evaluate"] = {"restarts": 3}
    for stage in ("semisup", "finetune"):
        names = {name.partition("@")[2] for name in STAGES if name.startswith(stage)}
        block = shortened[stage]
        block["methods"] = {name: start for name, start in block["methods"].items() if name in names}
    return shortened


def on_features(tree: dict[str, object]) -> dict[str, object]:
    """Return small settings with the methods on stored features, and a result that a baseline may replace."""
    changed = small(tree)
    clusters: dict[str, object] = {"clusters": 10, "compare": {"replace": True}}
    changed["cluster"] = {"method": "scan_heads", **clusters, "scan_heads": {"heads": 4}, "kmeans": {}, "spectral": {}}
    changed["self_label"] = {"method": "neighbors", "neighbors": {}}
    changed["semisup"] = {"methods": {"propagation": {"start": "pretrain"}}, "propagation": {"least_labels": 2}}
    del changed["finetune"]
    return changed


class Project:
    """A project in a folder, with the files of an undisturbed run."""

    def __init__(self, folder: Path, tree: Mapping[str, object], stages: Mapping[str, str] = STAGES) -> None:
        """Set up the project. tree: its settings; stages: stage → command, in order."""
        self.folder, self.stages = folder, stages
        self.mark = uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "params.yaml").write_text(yaml.safe_dump(dict(tree), sort_keys=False))
        outs = {name: "runs/" + name.replace("@", "/") for name in stages}
        pipeline = {
            name.replace("@", "-"): {"cmd": f"{sys.executable} -m stages {command}", "outs": [outs[name]]}
            for name, command in stages.items()
        }
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline}))
        (folder / ".dvc").mkdir(exist_ok=True)
        (folder / ".dvc/config").write_text(
            "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        )
        self.outs = {name: folder / out for name, out in outs.items()}
        self.seconds: dict[tuple[str, bool], float] = {}
        self.expected: dict[Path, bytes] = {}

    def start(self, stage: str, by_dvc: bool) -> "subprocess.Popen[str] | Forked":
        """Start a stage in a process group of its own."""
        if not by_dvc:
            return Forked(self.stages[stage].split(), self.folder, self.folder / "output")
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", stage.replace("@", "-")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SSLPIPE_KILLS": self.mark, "OMP_NUM_THREADS": "1"}
        output = (self.folder / "output").open("w")
        with output:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, text=True, process_group=0
            )

    @property
    def output(self) -> str:
        """What the last process printed."""
        return (self.folder / "output").read_text(errors="replace")

    def finish(self, stage: str, by_dvc: bool) -> int:
        """Run a stage to its end, note its time and return the exit code."""
        began = time.monotonic()
        code = self.start(stage, by_dvc).wait()
        self.seconds.setdefault((stage, by_dvc), time.monotonic() - began)
        return code

    def run(self) -> None:
        """Run all stages undisturbed, and one by DVC as well, whose time to start is added to the others."""
        probe = "pretrain"
        for stage, by_dvc in [*((stage, False) for stage in self.stages), (probe, True)]:
            assert self.finish(stage, by_dvc) == 0, self.output
        self.expected = self.files()
        further = self.seconds[probe, True] - self.seconds[probe, False]
        self.seconds |= {(stage, True): self.seconds[stage, False] + further for stage in self.stages}

    def files(self) -> dict[Path, bytes]:
        """Every file under runs/ but those with times, and of .sslpipe/ what should not stay."""
        paths = [*(self.folder / "runs").rglob("*"), *(self.folder / ".sslpipe").rglob("*")]
        paths = [path for path in paths if path.is_file() and path.name != PACE]
        return {path.relative_to(self.folder): path.read_bytes() for path in paths}

    def live(self, stage: str) -> Path:
        """Return the live folder of a stage."""
        return live_folder(self.outs[stage], stage.partition("@")[0])

    def processes(self) -> list[int]:
        """Return the numbers of the processes that were started here, and of those that they started."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    marked = f"SSLPIPE_KILLS={self.mark}".encode() in (folder / "environ").read_bytes()
                    ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                except OSError:
                    continue
                if marked and not ended:
                    found.append(int(folder.name))
        return found

    def restore(self) -> None:
        """Write the files of the undisturbed run again."""
        for name in ("runs", ".sslpipe"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path, content in self.expected.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)


def kill(project: Project, stage: str, kind: Kind, after: float, *, fresh: bool) -> Outcome:
    """Start a stage, end it after some seconds, run it again and compare. fresh: the stage has no outputs before."""
    outcome = Outcome(stage, kind, after)
    if fresh:
        shutil.rmtree(project.outs[stage])
    process = project.start(stage, kind.by_dvc)
    time.sleep(after)
    outcome.killed = process.poll() is None
    if outcome.killed:
        (os.killpg if kind.group else os.kill)(process.pid, kind.signal)
    outcome.faults += _after_signal(project, process, outcome)
    outcome.faults += _live_history(project, stage)
    if (code := project.finish(stage, kind.by_dvc)) != 0:
        outcome.faults.append(f"the second run ended with {code}: {project.output[-300:]}")
    outcome.resumed = "resumed after " in project.output
    files = project.files()
    outcome.faults += [f"differs: {path}" for path in _different(files, project.expected)]
    outcome.faults += _live_pace(project, stage)
    if files != project.expected:
        project.restore()
    return outcome


def _after_signal(project: Project, process: "subprocess.Popen[str] | Forked", outcome: Outcome) -> Iterator[str]:
    """Yield the faults of the first run: processes that stay, incomplete outputs, a traceback, exit code 0."""
    deadline = time.monotonic() + WAIT
    while (left := project.processes()) or (process.poll() is None and (left := [process.pid])):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for number in left:
        os.kill(number, signal.SIGKILL)
    if left:
        yield f"{len(left)} processes left"
    code = process.wait()
    polite = outcome.kind.signal != signal.SIGKILL
    if outcome.killed and code == 0 and polite and not _done(project, outcome.stage):
        yield "exit code 0"
    if polite and "Traceback" in project.output and "/stages/" in project.output:
        yield f"traceback: {project.output.strip().splitlines()[-1]}"
    out = project.outs[outcome.stage]
    if out.exists() and not _done(project, outcome.stage):
        yield "incomplete outputs"


def _live_history(project: Project, stage: str) -> Iterator[str]:
    """Yield the faults of the live history after a signal: rows of an undisturbed run, as many as the checkpoint."""
    path = project.live(stage) / HISTORY
    expected = project.expected.get(path.relative_to(project.folder), b"")
    found = path.read_bytes() if path.exists() else b""
    if not expected.startswith(found) or (found and not found.endswith(b"\r\n")):
        yield "the live history is not the beginning of the undisturbed one"
    for checkpoint in (project.folder / FOLDER).glob(f"{stage.partition('@')[0]}-*/run.safetensors"):
        with safe_open(checkpoint, framework="pt") as file:
            rows = len(json.loads(file.metadata()["state"])["history"])
        if max(found.count(b"\n") - 1, 0) < rows:
            yield f"the live history has not the {rows} rows of the checkpoint"


def _live_pace(project: Project, stage: str) -> Iterator[str]:
    """Yield the faults of the pace after a run: it has the steps of the history, and times that grow."""
    history, pace = (project.live(stage) / name for name in (HISTORY, PACE))
    if pace.exists():
        rows = {path: list(csv.DictReader(path.read_text().splitlines())) for path in (history, pace)}
        seconds = [float(row["seconds"]) for row in rows[pace]]
        if [row["step"] for row in rows[pace]] != [row["step"] for row in rows[history]] or seconds != sorted(seconds):
            yield "the pace has not the steps of the history, or times that do not grow"


def _done(project: Project, stage: str) -> bool:
    """Whether a stage's outputs are all there."""
    out = project.outs[stage].relative_to(project.folder)
    return {path: content for path, content in project.files().items() if path.is_relative_to(out)} == {
        path: content for path, content in project.expected.items() if path.is_relative_to(out)
    }


def _different(found: Mapping[Path, bytes], expected: Mapping[Path, bytes]) -> list[Path]:
    return sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))


def kill_often(project: Project, kills: int, seed: int, show: Callable[[str], object] = print) -> list[Outcome]:
    """Kill random stages in random ways; every kind comes equally often."""
    rng = random.Random(seed)
    outcomes = []
    for number in range(kills):
        if number % len(KINDS) == 0:
            kinds = rng.sample(KINDS, len(KINDS))
        stage, kind = rng.choice(list(project.stages)), kinds[number % len(KINDS)]
        after = rng.uniform(0, 1.05) * project.seconds[stage, False]
        # What DVC and the imports take first is of less interest.
        after += rng.uniform(0.5, 1.0) * (project.seconds[stage, True] - project.seconds[stage, False]) * kind.by_dvc
        outcome = kill(project, stage, kind, after, fresh=rng.random() < 0.5)
        outcomes.append(outcome)
        state = "resumed" if outcome.resumed else "ran anew" if outcome.killed else "had ended"
        show(f"{number + 1}: {stage}, {kind.name} after {after:.2f} s: {state}; {outcome.faults or 'equal'}")
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on-features", action="store_true")
    given = parser.parse_args()
    settings, stages = (on_features, ON_FEATURES) if given.on_features else (small, STAGES)
    with tempfile.TemporaryDirectory() as name:
        tree = settings(yaml.safe_load((ROOT / "params.yaml").read_text()))
        project = Project(Path(name) / "project", tree, stages)
        project.run()
        print(f"undisturbed: {sum(project.seconds.values()):.0f} s", flush=True)
        outcomes = kill_often(project, given.kills, given.seed, lambda line: print(line, flush=True))
    faulty = [outcome for outcome in outcomes if outcome.faults]
    killed = Counter(outcome.kind.name for outcome in outcomes if outcome.killed)
    resumed = sum(outcome.resumed for outcome in outcomes)
    print(
        f"{len(outcomes)} kills, {killed.total()} of a process that still ran, {resumed} resumed; {len(faulty)} faulty"
    )
    print(", ".join(f"{count} {name}" for name, count in killed.items()))
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
