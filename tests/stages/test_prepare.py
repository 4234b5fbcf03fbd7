import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sslpipe.data.store import Store
from sslpipe.io.errors import UserError
from stages.prepare import prepare

PARAMS = """
seed: 0
protocol: split
prepare:
  source: digits
  digits: {}
  folder: {path: nowhere}
  size: 16
  channels: 1
  test: 0.25
  held_out: 0.1
  labelled: {per_class: 4}
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(root, classes="ab", count=8):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (9, 7), (i, 0, 0)).save(root / name / f"{i}.jpg")


def test_digits(project, capsys):
    prepare()
    store = Store(project / "runs/prepare")
    assert (store.info.train, store.info.held_out, store.info.test) == (1213, 135, 449)
    assert store.images("train").shape == (1213, 1, 16, 16)
    assert store.classes == tuple("0123456789")
    assert np.bincount(store.labelled()[1]).tolist() == [4] * 10
    assert capsys.readouterr().out.splitlines()[-1] == (
        "prepare: 1213 train, 135 held_out, 449 test images of 10 classes, 40 labelled; 0 broken (report.json)"
    )


def test_folder_by_options(project, capsys):
    pictures(project / "mine")
    (project / "mine/a/0.jpg").write_text("text")
    prepare(path="mine", size=4, seed=3, assignments=["channels=3", "labelled.per_class=1"])
    store = Store(project / "runs/prepare")
    assert store.images("test").shape[1:] == (3, 4, 4)
    assert store.labelled()[1].tolist() in ([0, 1], [1, 0])
    out = capsys.readouterr().out
    assert "prepare.folder.path = mine  (option; params.yaml: nowhere)" in out
    assert "seed = 3  (option; params.yaml: 0)" in out
    assert "2 labelled; 1 broken (report.json)\n" in out
    assert "\n  15 images equal to others, in 5 groups, 5 across classes and 1 across splits" in out
    assert json.loads((project / "runs/prepare/report.json").read_text())["source"]["name"] == "folder"


def test_a_labels_file_that_names_a_missing_image(project, refused):
    pictures(project / "mine", classes="a")
    (project / "mine/labels.csv").write_text("file,label\na/0.jpg,cat\na/9.jpg,dog\n")
    error = refused("prepare", "--path", "mine")
    assert error == "error: mine/labels.csv line 3: 'a/9.jpg' is not an image in mine; the nearest is 'a/0.jpg'\n"
    assert not (project / "runs").exists()


def test_full_protocol(project):
    (project / "params.yaml").write_text(PARAMS.replace("protocol: split", "protocol: full"))
    prepare()
    info = Store(project / "runs/prepare").info
    assert (info.train, info.held_out, info.test) == (1617, 180, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["soruce=digits"], "prepare.soruce: unknown key; did you mean 'source'"),
        (["source=digit"], "prepare.source: unknown name 'digit'; did you mean 'digits'?; known: cifar10, "),
        (["source=folder"], "prepare.folder.path: nowhere does not exist"),
        (["size=0"], "prepare.size: 0 is out of range, expected at least 1"),
        (["channels=2"], "prepare.channels: unknown value 2"),
        (["test=1.5"], "prepare.test: 1.5 is out of range"),
        (["labelled.per_clas=4"], "prepare.labelled.per_clas: unknown key; did you mean 'per_class'"),
        (["labelled.fraction=0.1"], "prepare.labelled: expected exactly one"),
        (["labelled.fold=-1"], "prepare.labelled.fold: -1 is out of range, expected at least 0"),
        (["labelled.per_class=200"], "per_class: 200 is more than the"),
        (["digits.size=4"], "prepare.digits.size: unknown key"),
        (["protocol=whole"], "protocol: unknown value 'whole'"),
        (["seed=-1"], "seed: -1 found"),
    ],
)
def test_mistakes_are_one_line(project, change, message):
    with pytest.raises(UserError) as raised:
        prepare(assignments=change)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (project / "runs/prepare").exists()


@pytest.mark.parametrize("block", ["prepare: 3", "prepare: [digits]"])
def test_a_block_that_is_none(project, block):
    (project / "params.yaml").write_text(block)
    with pytest.raises(UserError, match=r"prepare: .* expected a block of keys"):
        prepare()


def test_strict(project):
    pictures(project / "mine")
    (project / "mine/b/3.jpg").write_text("text")
    with pytest.raises(UserError, match="1 of 16 images broken"):
        prepare(path="mine", strict=True)
    assert not (project / "runs/prepare").exists()


def test_an_output_that_cannot_be_written(project):
    (project / "file").touch()
    with pytest.raises(UserError, match="file/out: cannot be written"):
        prepare(out=project / "file/out")


def test_command_line(project):
    app = typer.Typer()
    app.command()(prepare)
    result = CliRunner().invoke(app, ["--size", "8", "--set", "channels=3", "--set", "labelled=null", "--out", "out"])
    assert result.exit_code == 0, result.output
    store = Store(project / "out")
    assert store.images("train").shape[1:] == (3, 8, 8)
    assert store.labelled()[0].tolist() == list(range(store.info.train))


def test_the_command_is_quick_to_load():
    code = "import sys, stages.prepare; sys.exit(bool({'torch', 'numpy', 'PIL', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels_that_come_later_change_nothing_that_training_without_labels_reads(project):
    pictures(project / "mine", classes="a", count=40)
    out = project / "runs/prepare"
    arguments = ["source=folder", "folder.path=mine/a", "draw=blind", "labelled=null"]
    prepare(assignments=arguments)
    read = ("store.json", "train/images.npy", "held_out/images.npy")
    before = [(out / name).read_bytes() for name in read]
    names = json.loads((out / "train/files.json").read_text())
    (project / "labels.csv").write_text(
        "file,label\n" + "".join(f"{name},x{i % 2}\n" for i, name in enumerate(names[:6]))
    )
    prepare(assignments=[*arguments, "folder.labels=labels.csv"])
    assert [(out / name).read_bytes() for name in read] == before
    assert Store(out).classes == ("x0", "x1")
    assert len(Store(out).labelled()[0]) == 6
