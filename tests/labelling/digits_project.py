"""A project of 400 handwritten digits without labels, and `sslpipe label` on it as a process of its own."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
STARTS = 60
"""Most seconds until the server listens."""


def draw(folder):
    """Write scan_0001.png to scan_0400.png in the folder, and return the class of each file."""
    folder.mkdir(parents=True)
    digits = load_digits()
    truth = {}
    for number, place in enumerate(np.random.default_rng(0).permutation(len(digits.images))[:400], start=1):
        file = f"scan_{number:04}.png"
        Image.fromarray((digits.images[place] * 15.9).astype(np.uint8)).resize((32, 32)).save(folder / file)
        truth[file] = f"digit {digits.target[place]}"
    return truth


class Digits:
    """The project beside the folder of its images, and its commands."""

    def __init__(self, project, commands, truth):
        """commands: folder where sslpipe and dvc are found; truth: file → class."""
        self.path, self.truth = project, truth
        self.servers = []
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            **{f"GIT_{who}_{what}": f"{what}@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    @classmethod
    def made(cls, folder, commands):
        """Make images and project in a folder, and run the pipeline."""
        made = cls(folder / "project", commands, draw(folder / "photos"))
        made.path.mkdir()
        made.run("sslpipe init . --images ../photos --features efficientnet_lite0")
        params = made.path / "params.yaml"
        text = params.read_text()
        for old, new in (
            ("report: {}", "report: {map: false}"),
            ("  scan_heads:\n", "  scan_heads:\n    steps: 20\n"),
            ("side: 128", "side: 64"),
            ("    judges: [tf_efficientnet_lite2]", "    judges: []"),
        ):
            assert old in text, old
            text = text.replace(old, new)
        params.write_text(text)
        made.run("dvc repro")
        return made

    def copy(self, folder):
        """Copy images and project to another folder."""
        for name in ("photos", "project"):
            shutil.copytree(self.path.parent / name, folder / name)
        other = object.__new__(Digits)
        other.path, other.truth, other.environment = folder / "project", self.truth, self.environment
        other.servers = []
        return other

    def variables(self, first):
        """Return the variables of a process that runs some Python code first."""
        if not first:
            return self.environment
        file = self.path.parent / "first.py"
        file.write_text(first)
        return {**self.environment, "WARM_FIRST": str(file)}

    def run(self, command, *, code=0, first=""):
        """Run a command in the project, and return what it printed. first: as of `server`."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.path,
            env=self.variables(first),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def rows(self, name):
        """Return the rows of a table of the project; [] if it does not exist."""
        if not (self.path / name).exists():
            return []
        with (self.path / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def labels(self, name="labels.csv"):
        """Return file → label, in the order of the table of labels."""
        return {row["file"]: row["label"] for row in self.rows(name) if row["label"]}

    def files(self):
        """Return the file of each image on the page."""
        from sslpipe.data.store import Store

        store = Store(self.path / "runs/prepare")
        return [*store.files("train"), *store.files("held_out")]

    def answered(self):
        """Return the file of each answer in the journal, in their order."""
        lines = (self.path / ".sslpipe/label/journal.jsonl").read_text().splitlines()
        return [entry["image"] for entry in map(json.loads, lines) if entry["do"] == "answer"]

    def times(self):
        """Return when each file of the stages that read no labels was written; mine-neighbors tells their purity."""
        names = ("pretrain", "features", "cluster", "self-label")
        files = (file for name in names for file in (self.path / "runs" / name).iterdir())
        return {file: file.stat().st_mtime_ns for file in files}

    def accuracy(self, name, without):
        """Return the share of images that a table of predictions calls right, of those that are not in `without`."""
        found = {Path(row["file_name"]).name: row["prediction"] for row in self.rows(name)}
        right = [called == self.truth[file] for file, called in found.items() if file not in without]
        return sum(right) / len(right)

    def server(self, first="", arguments=()):
        """Start `sslpipe label`. first: Python code that changes its process before."""
        self.servers.append(Server(self, first, arguments))
        return self.servers[-1]


def waiting(labels, files, state):
    """The files of held-out images whose class no training image has: these labels are not in the table yet."""
    train = set(files[: state["images"]["train"]])
    trained = {label for file, label in labels.items() if file in train}
    return {file for file, label in labels.items() if file not in train and label not in trained}


class Server:
    """`sslpipe label` on a project, as a process."""

    def __init__(self, project, first="", arguments=()):
        self.project = project
        self.output = project.path.parent / "label.txt"
        environment = project.variables(first)
        with self.output.open("w") as output:
            self.client = subprocess.Popen(
                ["sslpipe", "label", "--no-browser", *arguments],
                cwd=project.path,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                executable=shutil.which("sslpipe", path=environment["PATH"]),
            )
        self.url = self._address()

    def _address(self):
        end = time.monotonic() + STARTS
        while not (found := re.search(r"http://\S+", self.text())):
            assert self.client.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.02)
        return found[0]

    def text(self):
        """What it has printed."""
        return self.output.read_text()

    @property
    def number(self):
        """Number of the process, as the project's lock has it."""
        return int((self.project.path / ".sslpipe/.label.lock").read_text())

    def end(self, by=signal.SIGTERM):
        """End the process with a signal, and wait for its end."""
        number = self.number
        os.kill(number, by)
        self.client.wait(20)
        while True:
            with suppress(ProcessLookupError):
                os.kill(number, 0)
                time.sleep(0.02)
                continue
            return self.text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.client.poll() is None:
            self.end()
