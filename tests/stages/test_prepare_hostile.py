"""One folder that holds every kind of file that is not what it seems (tests/hostile.py), and the whole stage on it."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from sslpipe.data.store import SPLITS, Store
from sslpipe.preparation import store_writer
from stages.prepare import prepare

sys.path.insert(0, str(Path(__file__).parents[1]))
import hostile

PARAMS = "prepare: {source: folder, folder: {path: mine}, size: 16, channels: 3, held_out: 0.0, test: 0.0}"
MINE = "mine/no utf-8 \udce9"
"""The class whose files are hostile."""


def shown(name):
    """As the report shows bytes that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    Path("mine/plain").mkdir(parents=True)
    for i in range(12):
        Image.new("L", (9, 7), i).save(f"mine/plain/{i}.png")
    return tmp_path / "mine"


@pytest.fixture
def hostile_folder(folder, tmp_path, monkeypatch):
    """All kinds at once, a file that is gone when it is to be decoded, and folders that cannot be read."""
    hostile.fill(tmp_path / MINE)
    (tmp_path / MINE / "vanishes.png").write_bytes((folder / "plain/0.png").read_bytes())
    (folder / "closed").mkdir()
    (folder / "what.\udcff").write_text("no image")
    draw = store_writer.draw_splits

    def vanish(*given, **settings):
        (tmp_path / MINE / "vanishes.png").unlink(missing_ok=True)
        return draw(*given, **settings)

    monkeypatch.setattr(store_writer, "draw_splits", vanish)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder


BROKEN = {**hostile.BROKEN, **({} if hostile.reads_everything() else hostile.CLOSED), "vanishes.png": hostile.GONE}


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_crashes_and_the_report_says_what_was_left_out(hostile_folder, capsys, workers, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 9)
    began = time.monotonic()
    prepare(workers=workers)
    assert time.monotonic() - began < 30
    report = json.loads(Path("runs/prepare/report.json").read_text())
    reasons = {entry["file"]: entry["reason"] for entry in report["broken"]}
    group = shown(MINE.removeprefix("mine/"))
    assert set(reasons) == {f"{group}/{shown(name)}" for name in BROKEN}
    for name, reason in BROKEN.items():
        assert reason in reasons[f"{group}/{shown(name)}"]
    assert report["unreadable"] == [{"folder": "closed", "reason": "Permission denied"}]
    assert report["ignored"] == {"without suffix": 1, ".\\xff": 1}
    store = Store(Path("runs/prepare"))
    kept = [name for split in SPLITS for name in store.files(split)]
    assert set(kept) == {f"plain/{i}.png" for i in range(12)} | {f"{group}/{name}" for name in hostile.GOOD}
    assert len(kept) == 12 + len(hostile.GOOD)
    assert store.classes == (group, "plain")
    closing = capsys.readouterr().out
    assert f"{len(BROKEN)} broken, 1 folders unreadable, 2 other files skipped (report.json)\n" in closing


def test_strict_refuses_with_exit_code_2_and_leaves_the_former_output(hostile_folder, refused):
    prepare()
    before = contents(Path("runs"))
    message = refused("prepare", "--strict")
    assert message == (
        "error: prepare: 1 folders unreadable, refused by --strict; the first is 'closed': Permission denied\n"
    )
    (hostile_folder / "closed").rmdir()
    found = f"{len(BROKEN) - 1} of {len(BROKEN) - 1 + len(hostile.GOOD) + 12} images broken, refused by --strict"
    assert found in refused("prepare", "--strict", "--workers", "2")
    assert contents(Path("runs")) == before
    assert sorted(path.name for path in Path("runs").iterdir()) == ["prepare"]


ALONE = ["empty.jpg", "cut.png", "bomb.png", "pipe.png", "gone.png", "new\nline.png", "no utf-8 \udce9\udcff.png"]


@pytest.mark.parametrize("name", ALONE, ids=ascii)
def test_strict_refuses_one_alone(folder, tmp_path, refused, name):
    hostile.fill(tmp_path / "all")
    (tmp_path / "all" / name).rename(folder / "plain" / name)
    message = refused("prepare", "--strict", "--workers", 1)
    assert f"1 of 13 images broken, refused by --strict; the first is {f'plain/{name}'!r}: " in message
    assert hostile.BROKEN[name] in message
    assert not Path("runs/prepare").exists()


def test_a_path_that_is_no_utf8(folder, tmp_path, capsys):
    folder.rename(tmp_path / "caf\udce9")
    prepare(path="caf\udce9")
    assert "prepare.folder.path = caf\\udce9  (option" in capsys.readouterr().out
    assert json.loads(Path("runs/prepare/report.json").read_text())["source"]["path"] == "caf\\xe9"
    assert Store(Path("runs/prepare")).info.train == 12
