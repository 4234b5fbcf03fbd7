"""Wall time of commands that have nothing to do: `sslpipe --help` beside Python and torch alone, and `dvc repro`.

`dvc repro` is measured in this checkout where it is up to date. Else in a temporary copy of its code, dvc.yaml and
params.yaml, in which every output is there as a small file and `dvc commit` has recorded all stages as done: DVC looks
through the whole pipeline as it does in a real project, and no stage runs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import interleave
from benchmarks.report import Options, Table

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
COPIED = ("sslpipe", "stages", "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/config")
UP_TO_DATE = "up to date"


def run(*command: str, folder: Path = ROOT) -> str:
    """What a command prints. Raises CalledProcessError where it fails."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def expecting(text: str, *command: str, folder: Path = ROOT) -> Callable[[], None]:
    """Work that runs a command and finds the text in what it prints."""

    def work() -> None:
        printed = run(*command, folder=folder)
        assert text in printed, (command, printed)

    return work


def stand_in(folder: Path) -> None:
    """Make a copy of the repository in which all stages count as done."""
    for name in COPIED:
        (folder / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    run("git", "init", "--quiet", folder=folder)
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        outputs = {Path(each.fs_path) for each in repo.index.outs}
        inputs = {Path(each.fs_path) for each in repo.index.deps}
    for path in outputs:
        path.mkdir(parents=True)
        (path / "model.json").touch()
    # What lies deeper first: a folder on the way is there when its own turn comes.
    for path in sorted(inputs, key=lambda path: len(path.parts), reverse=True):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    run("dvc", "commit", "--force", "--quiet", folder=folder)


@contextmanager
def finished() -> Iterator[tuple[Path, str]]:
    """A project with nothing to do, and in words which one."""
    if (ROOT / "dvc.lock").exists() and UP_TO_DATE in run("dvc", "status"):
        yield ROOT, "this checkout, which is up to date"
        return
    with tempfile.TemporaryDirectory() as name:
        stand_in(Path(name))
        yield Path(name), "a temporary copy with small files in place of all outputs"


def measure(options: Options) -> list[Table]:
    rounds, warmup = (1, 0) if options.quick else (9, 1)
    python = sys.executable
    printing = interleave(
        {
            "sslpipe --help": expecting("mine-neighbors", python, "-m", "stages", "--help"),
            "sslpipe prepare --help": expecting("Usage", python, "-m", "stages", "prepare", "--help"),
            'python -c "pass"': expecting("", python, "-c", "pass"),
            'python -c "import torch"': expecting("", python, "-c", "import torch"),
        },
        rounds=rounds,
        warmup=warmup,
    )
    with finished() as (folder, which):
        version = run("dvc", "--version").strip()
        pipeline = interleave(
            {
                "dvc repro": expecting(UP_TO_DATE, "dvc", "repro", folder=folder),
                "dvc status": expecting(UP_TO_DATE, "dvc", "status", folder=folder),
                'python -c "import dvc.repo"': expecting("", python, "-c", "import dvc.repo"),
            },
            rounds=rounds,
            warmup=warmup,
        )
    columns = ("command", "s")
    return [
        Table("Help", columns, [(name, printing.time(name)) for name in printing.seconds]),
        Table(
            "The pipeline with nothing to do",
            columns,
            [(name, pipeline.time(name)) for name in pipeline.seconds],
            f"DVC {version}, in {which}.",
        ),
    ]
