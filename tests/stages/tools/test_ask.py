"""`sslpipe ask` on a folder of images whose groups are known, from prepare to the next round."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from stored import write_model, write_stored_features

from sslpipe.data.store import SPLITS, Store
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_network, save_model
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.preparation.questions_file import Row, read_rows, write_rows
from stages.prepare import prepare
from stages.tools.ask import ask

BACKBONE = BackboneSettings(name="tiny_resnet")
CLASSES = ("ant", "bee", "cow", "dog")
COUNT = 160


def truth(name):
    return CLASSES[int(Path(name).stem) % 4]


class Folder:
    """160 images, image i of class i % 4, in 64 features near that class's axis; labels in `labels`, if any."""

    def __init__(self, folder, draw, labels=None):
        self.folder, self.draw = folder, draw
        rng = np.random.default_rng(0)
        for i in range(COUNT):
            path = folder / "photos" / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        self.features = rng.normal(0, 0.12, (COUNT, 64))
        self.features[np.arange(COUNT), np.arange(COUNT) % 4] += 1
        self.prepare(labels)
        write_model(Path("runs/pretrain"), self.store, name="tiny_resnet")
        write_stored_features(
            Path("runs/features"),
            self.store,
            Path("runs/pretrain"),
            {split: self.features[[int(Path(name).stem) for name in self.store.files(split)]] for split in SPLITS},
        )

    def prepare(self, labels):
        block = {"path": "photos", "layout": "flat", **({"labels": labels} if labels else {})}
        settings = {"source": "folder", "folder": block, "size": 8, "channels": 3, "test": 0.25, "draw": self.draw}
        Path("params.yaml").write_text(yaml.safe_dump({"seed": 3, "prepare": settings, "pretrain": {}, "cluster": {}}))
        prepare(workers=1)
        self.store = Store(Path("runs/prepare"))
        return {split: self.store.files(split) for split in SPLITS}

    def write_head(self, stage, classes=()):
        """A model whose output k is the axis k, as a stage writes it."""
        info = self.store.info
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Network(
                BACKBONE, LinearSettings(outputs=4), mean=info.mean, std=info.std, channels=3, size=info.size
            )
        network.backbone.load_state_dict(load_network(Path("runs/pretrain"), info).backbone.state_dict())
        layer = next(module for module in network.head.modules() if isinstance(module, torch.nn.Linear))
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.weight[torch.arange(4), torch.arange(4)] = 8.0
        folder = Path("runs") / stage
        folder.mkdir(parents=True)
        save_model(folder, network, card_for(stage.split("/")[0], info, {}, parent=None, classes=tuple(classes)))


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda draw="blind", labels=None: Folder(tmp_path, draw, labels)


def answer(path, count=None):
    """Fill in the right labels, of all or of the first questions."""
    rows = read_rows(path)
    asked = [row.file for row in rows if row.question][:count]
    write_rows(path, [Row(**{**vars(row), "label": truth(row.file)}) if row.file in asked else row for row in rows])


def test_the_first_round_asks_for_each_group_and_for_random_held_out_images(small, capsys):
    project = small()
    project.write_head("self-label")
    ask(budget=20)
    out = capsys.readouterr().out
    rows = read_rows(Path("questions.csv"))
    files = {split: project.store.files(split) for split in SPLITS}
    assert [row.question for row in rows] == [str(i) for i in range(1, 21)]
    assert {truth(row.file) for row in rows[:4]} == set(CLASSES)
    assert [row.group for row in rows[:4]] == [str(CLASSES.index(truth(row.file))) for row in rows[:4]]
    assert all(row.reason.startswith("most typical of group") for row in rows[:4])
    held_out = [row.reason == "random, for an honest figure" for row in rows]
    assert [place for place, each in enumerate(held_out, 1) if each] == [10, 20]
    for row, is_held_out in zip(rows, held_out, strict=True):
        assert row.file in files["held_out" if is_held_out else "train"]
        assert row.label == ""
    assert "   4  most typical of a group" in out
    assert "   2  random held-out" in out
    assert "set prepare.folder.labels: questions.csv" in out
    first = Path("questions.csv").read_bytes()
    ask(budget=20)
    assert Path("questions.csv").read_bytes() == first
    ask(budget=7, out=Path("few.csv"))
    assert read_rows(Path("few.csv")) == rows[:7]


@pytest.mark.parametrize("draw", ["blind", "unlabelled", "by_class"])
def test_rounds_until_uncertainty_counts(small, draw, capsys):
    """Labels known before, a round, its answers in prepare, and a next round: no image moves, and no label is lost."""
    known = {f"{i}.png": truth(f"{i}.png") for i in range(0, 40, 3)}
    Path("labels.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in known.items()))
    project = small(draw, "labels.csv")
    files = {split: project.store.files(split) for split in SPLITS}
    asked_before = set(known)
    for number in range(3):
        ask(budget=10)
        rows = read_rows(Path("questions.csv"))
        new = [row for row in rows if row.question and not row.label]
        assert len(new) == 10
        assert not asked_before & {row.file for row in new}
        assert not {row.file for row in new} & set(files["test"])
        asked_before |= {row.file for row in new}
        answer(Path("questions.csv"))
        assert project.prepare("questions.csv") == files
        classes = project.store.classes
        for split in SPLITS:
            for name, label in zip(files[split], project.store.labels(split), strict=True):
                assert (label >= 0) == (name in asked_before)
                assert label < 0 or classes[label] == truth(name)
        assert project.store.labels_chosen
        if number == 1:
            project.write_head("semisup/propagation", CLASSES)
    out = capsys.readouterr().out
    assert "uncertainty of runs/semisup/propagation counts" in out
    assert "similar to many uncertain images" in out
    assert "questions.csv, in order as far as you like, then\n  " in out  # the file is known, so no setting is named
    # The two that were asked for, without those that had labels before, which were not drawn.
    assert "accuracy 1.000 ± 0.192 on 2 random held-out images, which no model was trained on" in out


def test_answers_are_kept_and_open_questions_are_replaced(small, capsys):
    small()
    ask(budget=12)
    rows = read_rows(Path("questions.csv"))
    answer(Path("questions.csv"), 5)
    ask(budget=12)
    again = read_rows(Path("questions.csv"))
    assert [(row.file, row.label, row.question) for row in again[:5]] == [
        (row.file, truth(row.file), row.question) for row in rows[:5]
    ]
    # The order goes on where the answers end, but for the places of the random images.
    assert [row.file for row in again[5:9]] == [row.file for row in rows[5:9]]
    assert [row.question for row in again] == [str(i) for i in range(1, 18)]
    assert "questions.csv: 7 questions without an answer replaced by the new ones, 5 rows with a label kept" in (
        capsys.readouterr().out
    )


def test_a_wrong_label_is_asked_again_once(small, capsys):
    names = [f"{i}.png" for i in range(80)]
    wrong = {name: truth(name) for name in names}
    Path("labels.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in wrong.items()))
    project = small("blind", "labels.csv")
    changed = [name for name in project.store.files("train") if name in wrong][:2]
    wrong |= {name: CLASSES[(CLASSES.index(truth(name)) + 1) % 4] for name in changed}
    Path("labels.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in wrong.items()))
    project.prepare("labels.csv")
    ask(budget=20)
    checks = [row for row in read_rows(Path("questions.csv")) if row.question and row.label]
    assert sorted(row.file for row in checks) == sorted(changed)
    for row in checks:
        assert row.label == row.before == wrong[row.file]
        assert row.reason == f"check {row.before!r}: similar images say {truth(row.file)!r}"
    assert "2  labels to check" in capsys.readouterr().out
    answer(Path("questions.csv"))
    project.prepare("questions.csv")
    label = dict(zip(project.store.files("train"), project.store.labels("train"), strict=True))
    assert [project.store.classes[label[name]] for name in changed] == [truth(name) for name in changed]
    ask(budget=20)
    assert "labels to check" not in capsys.readouterr().out


def test_experiments_use_the_questions_as_the_labelled_images(small, capsys):
    Path("labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{truth(f'{i}.png')}\n" for i in range(COUNT)))
    project = small("by_class", "labels.csv")
    prepare(workers=1, assignments=["labelled={per_class: 1}"])
    ask(budget=15)
    assert "prepare.labelled: {images: questions.csv}" in capsys.readouterr().out
    index, label = project.store.labelled()
    before = {project.store.files("train")[i]: CLASSES[each] for i, each in zip(index, label, strict=True)}
    rows = read_rows(Path("questions.csv"))
    assert {row.file: row.label for row in rows[:4]} == before  # the questions go on from these
    assert len(rows) == 19
    ask(budget=15, out=Path("anew.csv"), anew=True)
    assert [row.label for row in read_rows(Path("anew.csv"))] == [""] * 15
    prepare(workers=1, assignments=["labelled={images: questions.csv}"])
    asked = {row.file for row in read_rows(Path("questions.csv"))}
    index, _ = project.store.labelled()
    assert {project.store.files("train")[i] for i in index} == asked
    assert project.store.labels_chosen
    ask(budget=6)  # the next round
    again = read_rows(Path("questions.csv"))
    assert [(row.file, row.question) for row in again[:19]] == [(row.file, row.question) for row in rows]
    assert [row.question for row in again[19:]] == [str(i) for i in range(16, 22)]


def test_what_cannot_be_asked_is_refused(small, refused):
    project = small()
    Path("labels.csv").write_text("file,label\n1.png,bee\n")
    Path("old.csv").write_text("")
    assert "--anew: old.csv exists" in refused("ask", "--budget", 5, "--anew", "--out", "old.csv")
    assert "--out: labels.csv was not written by 'sslpipe ask'" in refused("ask", "--budget", 5, "--out", "labels.csv")
    assert "runs/pretrain: predicts neither classes nor clusters" in refused(
        "ask", "--budget", 5, "--model", "runs/pretrain"
    )
    assert not Path("questions.csv").exists()
    Path("runs/features/card.json").unlink()
    assert "runs/features/card.json" in refused("ask", "--budget", 5)
    Path("labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{truth(f'{i}.png')}\n" for i in range(COUNT)))
    project.prepare("labels.csv")
    assert "training images have a label; nothing to ask" in refused("ask", "--budget", 5)
