"""Every write of every command, found by running it, fails in turn: one line, and what was there stays.

With SSLPIPE_EVERY_WRITE=<seed> all of them fail (several minutes), without it a sample, the same in each run.
"""

import errno
import os
import random
import re
import resource
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVERY = "SSLPIPE_EVERY_WRITE"
FAILING = ("full disk", "removed folder", "EFBIG", "EDQUOT", "EROFS", "EACCES", "EIO")
LEFT = re.compile(r"\..+\.(partial|lock|replaced)")
BRIEF = ("--epochs", "1", "--checkpoint-seconds", "0")
COMMANDS = {
    "list-images": ("list-images", "--set", "source=folder", "--set", "folder.path=images"),
    "prepare": ("prepare",),
    "pretrain": ("pretrain", *BRIEF),
    "features": ("features", "--checkpoint-seconds", "0"),
    "mine-neighbors": ("mine-neighbors",),
    "cluster": ("cluster", *BRIEF),
    "self-label": ("self-label", *BRIEF),
    "semisup": ("semisup", "--method", "fixmatch", *BRIEF),
    "finetune": ("finetune", "--method", "linear"),
    "evaluate": ("evaluate",),
    "report": ("report",),
    "estimate-clusters": ("estimate-clusters", "--at-least", "9", "--at-most", "10", "--seeds", "2"),
    "ask": ("ask", "--budget", "12"),
    "predict": ("predict", "runs/self-label", "images", "--workers", "1"),
    "predict to parquet": ("predict", "runs/self-label", "images", "--workers", "1", "--out", "p.parquet"),
    "export": ("export", "runs/self-label", "--format", "torch", "--out", "exported/self-label"),
    "recipe": ("recipe", "use", "digits-moco", "other", "--force"),
}
SAMPLE = {"prepare": 6, "recipe": 5, "list-images": 4, "pretrain": 6, "predict": 4, "init": 6, "repeat": 6}
"""Writes that are tried of each command; the others have 2."""
WITHOUT = (".sslpipe", "runs/live")
"""Folders of what a command can do without."""
KEPT = ("runs/.prepare.partial", "runs/.prepare.journal")
"""What prepare keeps of an unfinished run: never the folder without the file."""

# Which folder is used is found once, by files that may fail.
tempfile.gettempdir()


class Writes:
    """The writes in a folder as they happen, (event, path, how many of these came before); `chosen` fails."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = []
        self.chosen, self.failing = None, None
        self.listening = False

    def run(self, command, chosen=None, failing=None):
        self.seen, self.chosen, self.failing = [], chosen, failing
        self.listening = True
        try:
            return command()
        finally:
            self.listening = False

    def hear(self, event, arguments):
        if event == "open":
            path, mode, flags = arguments
            if not (set(mode or "") & set("wax+") or (mode is None and flags & WRITING)):
                return
        elif event in ("os.rename", "os.symlink", "os.link"):
            path = arguments[1]
        elif event in ("os.mkdir", "os.truncate"):
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | os.PathLike) or os.fspath(path) == os.devnull:
            return
        given, path = path, os.path.relpath(path, self.folder)
        # torch.export makes the folder of its compiler's cache.
        if ".pyc" in path or "torchinductor" in path or (event == "os.mkdir" and (self.folder / path).is_dir()):
            return
        self.seen.append((event, path, Counter(self.seen_names())[event, path]))
        if self.seen[-1] == self.chosen:
            self.listening = False  # not for what follows
            self.fail(event, self.folder / path, given)

    def seen_names(self):
        return [(event, path) for event, path, _ in self.seen]

    def fail(self, event, path, given):
        if self.failing == "removed folder":
            shutil.rmtree(path.parent)
        elif self.failing == "full disk" and event == "open":
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/full")
        else:
            number = getattr(errno, self.failing, errno.ENOSPC)
            raise OSError(number, os.strerror(number), given)


_now = []


def _hear(event, arguments):
    if _now and _now[0].listening:
        _now[0].hear(event, arguments)


sys.addaudithook(_hear)


@pytest.fixture
def writes(project):
    rng = np.random.default_rng(0)
    (project / "images").mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(project / "images" / f"{i}.png")
    _now[:] = [Writes(project)]
    yield _now[0]
    _now.clear()


def content(folder):
    """Every file outside of WITHOUT and KEPT."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if not path.is_dir()}
    return {
        name: path.read_bytes() for name, path in paths.items() if not name.as_posix().startswith((*WITHOUT, *KEPT))
    }


def inodes(folder):
    """Path of every file → its inode, which another one has that replaces it."""
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def cases(seen, rng):
    """Every write with something that may happen to it."""
    for event, path, count in dict.fromkeys(seen):
        removable = event == "open" and Path(path).parent.name.endswith(".partial")
        yield (event, path, count), rng.choice([each for each in FAILING if each != "removed folder" or removable])


def tried(name, seen):
    rng = random.Random(name + os.environ.get(EVERY, ""))
    found = list(cases(seen, rng))
    return found if EVERY in os.environ else rng.sample(found, min(len(found), SAMPLE.get(name, 2)))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_write_that_fails_is_one_line_and_leaves_what_was_there(writes, at_once, name):
    arguments = COMMANDS[name]
    old = inodes(writes.folder)
    code, _, err = writes.run(lambda: at_once(*arguments))
    assert (code, err) == (0, "")
    seen, before = writes.seen, content(writes.folder)
    assert not [path for _, path, _ in seen if path.startswith("..")]
    # No file is written but by way of Python, so that all are in the list.
    named = {re.sub(r"\.(\w[^/]*)\.(partial|lock|replaced)", r"\1", path) for _, path, _ in seen}
    new = inodes(writes.folder)
    assert {path for path in new if new[path] != old.get(path)} <= named
    # Folders that exist now are not made again.
    seen = [
        write
        for write in seen
        if write[0] != "os.mkdir" or write[1].startswith(WITHOUT) or not (writes.folder / write[1]).is_dir()
    ]
    for write, failing in tried(name, seen):
        for name in (*WITHOUT, *KEPT):
            shutil.rmtree(writes.folder / name, ignore_errors=True)
        Path(KEPT[1]).unlink(missing_ok=True)
        code, _, err = writes.run(lambda: at_once(*arguments), write, failing)
        assert write in writes.seen, (write, failing)
        assert content(writes.folder) == before, (write, failing)
        left = [str(path.relative_to(writes.folder)) for path in writes.folder.rglob(".*") if LEFT.fullmatch(path.name)]
        assert not set(left) - set(KEPT), (write, failing)
        assert Path(KEPT[0]).exists() <= Path(KEPT[1]).exists(), (write, failing)
        if write[1].startswith(WITHOUT):
            assert (code, err) == (0, ""), (write, failing, err)
        else:
            assert code == 2, (write, failing, err)
            assert err.startswith("error: "), (write, failing, err)
            assert "cannot be written: " in err, (write, failing, err)
            assert err.count("\n") == 1, (write, failing, err)


def test_init_that_fails_can_be_repeated(writes, at_once, monkeypatch):
    monkeypatch.setattr("sslpipe.tools.scaffold._initialise", lambda folder: [])
    for i in range(3, 40):
        shutil.copy("images/0.png", f"images/{i}.png")
    arguments = ("init", "new", "--images", "images", "--from-scratch")
    code, _, err = writes.run(lambda: at_once(*arguments))
    assert (code, err) == (0, "")
    files = set(Path("new").iterdir())
    for write, failing in tried("init", writes.seen):
        shutil.rmtree("new", ignore_errors=True)
        code, _, err = writes.run(lambda: at_once(*arguments), write, failing)
        assert (code, err.count("\n"), "cannot be written: " in err) == (2, 1, True), (write, failing, err)
        assert not Path("new").exists() or not list(Path("new").iterdir()), (write, failing)
    assert at_once(*arguments)[0] == 0
    assert set(Path("new").iterdir()) == files


def test_repeat_names_the_file_that_it_cannot_write(writes, at_once, monkeypatch):
    class Dvc:
        pid = 0

        def __init__(self, *arguments, **options):
            pass

        def wait(self):
            return 0

    Path("dvc.yaml").write_text("stages: {}")
    monkeypatch.setattr("sslpipe.tools.repeats.cache_folder", lambda project: "cache")
    monkeypatch.setattr("sslpipe.tools.repeats.subprocess.Popen", Dvc)
    arguments = ("repeat", "--seeds", "0", "--target", "prepare")
    assert writes.run(lambda: at_once(*arguments))[0] == 0
    for write, failing in tried("repeat", writes.seen):
        shutil.rmtree(".sslpipe")
        code, _, err = writes.run(lambda: at_once(*arguments), write, failing)
        assert (code, err.count("\n"), "cannot be written: " in err) == (2, 1, True), (write, failing, err)
        assert at_once(*arguments)[0] == 0


def test_a_checkpoint_larger_than_files_may_be_does_not_end_the_training(project, at_once):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = Path("runs/pretrain/model.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, limit[1]))
    try:
        code, out, err = at_once("pretrain", *BRIEF)
        assert (code, err) == (0, "")
        (line,) = [line for line in out.splitlines() if "File too large" in line]
        assert re.fullmatch(
            r"\.sslpipe/checkpoints/pretrain-\w+/run\.safetensors: cannot be written: File too large; "
            r"the run goes on, but if it is stopped it resumes after step 0",
            line,
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limit[1]))
        before = content(project)
        code, _, err = at_once("pretrain", *BRIEF)
        assert (code, err) == (2, "error: runs/pretrain/model.safetensors: cannot be written: File too large\n")
        assert content(project) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert yaml.safe_load(Path("params.yaml").read_text())["seed"] == 0
