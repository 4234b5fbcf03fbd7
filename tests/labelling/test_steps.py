from pathlib import Path

import numpy as np
import pytest
import yaml

from sslpipe.io.params import Params
from sslpipe.io.version import own_version
from sslpipe.labelling.steps import REPRO, steps
from sslpipe.tools.asker import KnownLabels


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(table=None, *, init=True, source="folder"):
        Path("photos").mkdir(exist_ok=True)
        block = {"path": "photos", **({"labels": table} if table else {})}
        tree = {"prepare": {"source": source, "folder": block}}
        Path("params.yaml").write_text(yaml.safe_dump({**({"sslpipe": own_version()} if init else {}), **tree}))
        return Params(Path("params.yaml"))

    Path("labels.csv").write_text("file,label\n")
    return write


def known(train, held_out=(), names=("cat", "dog", "eel", "fox")):
    train, held_out = np.array(train), np.array(held_out, dtype=np.int64)
    return KnownLabels(train=train, held_out=held_out, random=held_out, names=names)


TABLE, BOTH = Path("labels.csv"), known([0, 1, -1])


def test_a_table_that_the_project_reads_needs_no_other_command(project):
    assert steps(project("labels.csv"), TABLE, BOTH) == ((REPRO,), None)
    assert steps(project(str(TABLE.absolute()), init=False), TABLE, BOTH, complete=True) == ((REPRO,), None)
    (Path("photos") / "labels.csv").write_text("file,label\n")
    assert steps(project(), Path("photos/labels.csv"), BOTH) == ((REPRO,), None)


def test_a_project_made_by_init_gets_the_table(project):
    init = ("sslpipe", "init", ".", "--labels", "labels.csv")
    assert steps(project(), TABLE, BOTH) == ((init, REPRO), None)
    assert steps(project("other.csv"), TABLE.absolute(), BOTH) == ((init, REPRO), None)


def test_another_project_is_changed_by_hand(project):
    commands, why = steps(project(init=False), TABLE, BOTH)
    assert (commands, why.partition(" and run ")[0]) == ((), "set prepare.folder.labels: labels.csv")
    for given in ({"source": "folder"}, {"source": "cifar10"}):
        commands, why = steps(project(**given), TABLE, BOTH, complete=given["source"] == "folder")
        assert commands == ()
        assert "the source has all labels, for an experiment: prepare.labelled: {images: labels.csv}" in why


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (known([-1, -1]), "no training image has a label yet"),
        (known([-1], [0]), "no training image has a label yet"),
        (known([1, -1, 1], [1, -1]), "all labels are 'dog'; give another class to some images"),
        (
            known([0, 1], [3, 2, 0, -1]),
            "no training image is of 'eel', 'fox'; label one training image of it, or rename it",
        ),
    ],
)
def test_labels_that_nothing_can_be_learned_from(project, labels, line):
    assert steps(project("labels.csv"), TABLE, labels) == ((), line)
