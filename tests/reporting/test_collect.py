"""Whole reports of small projects: what is in each file, what is left out and said, and equal bytes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from small_project import Project, decode

from sslpipe.io.errors import UserError
from sslpipe.reporting.collect import write_report, write_single_report
from sslpipe.reporting.encoding import decoded

NASTY = ["<script>alert(1)</script>.png", "x" * 300, "\u202egnp.exe", "a'\"b\nc.png", "</script>", "\u2028"]


def report(project, name="report"):
    out = project.folder / name
    write_report(project.inputs(), out)
    return out


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_image_is_where_the_store_has_it(tmp_path):
    project = Project(tmp_path)
    out = report(project)
    images, summary = decode(out, "images"), decode(out, "summary")
    assert images["count"] == 28
    assert images["names"] == project.names
    assert decoded(images["split"], "u1").tolist() == [0] * 16 + [1] * 4 + [2] * 8
    assert decoded(images["label"], "i2").tolist() == project.label.tolist()
    assert decoded(images["given"], "u1").tolist() == [1] * 6 + [0] * 22
    assert summary["images"] == {"train": 16, "held_out": 4, "test": 8}
    assert summary["labelled"] == "6 labels (2 a class)"
    assert summary["notes"] == []


def test_groups_have_the_images_names_and_scores_of_the_model(tmp_path):
    project = Project(tmp_path)
    project.params["semisup"] = {"methods": {"linear_one": {"start": "pretrain"}}}
    project.write_model("semisup/linear_one", 3, project.class_names)
    out = report(project)
    summary = decode(out, "summary")
    assert [(entry["name"], entry["kind"], entry["groups"]) for entry in summary["models"]] == [
        ("cluster", "groups", 3),
        ("semisup.linear_one", "classes", 3),
    ]
    metrics = json.loads((project.runs / "evaluate/metrics.json").read_text())
    assert [entry["scores"] for entry in summary["models"]] == list(metrics.values())
    for place, name in enumerate(metrics):
        part = decode(out, f"model-{place}")
        assert decoded(part["group"], "u2").tolist() == project.label.tolist()
        assert [group["name"] for group in part["groups"]] == project.class_names
        assert [group["size"] for group in part["groups"]] == np.bincount(project.label).tolist()
        assert all(group["purity"] == 1 for group in part["groups"])
        assert sorted(part["order"]) == [0, 1, 2]
        assert np.array_equal(part["confusion"]["counts"], np.diag(np.bincount(project.label[-8:])))
        assert [row["recall"] for row in part["perClass"]] == [1, 1, 1]
        assert (part["calibration"] is not None) == (name != "cluster")


def test_without_labels_what_needs_them_is_null_and_said(tmp_path):
    out = report(Project(tmp_path, known=False))
    summary, part, doubts = decode(out, "summary"), decode(out, "model-0"), decode(out, "doubts")
    assert (summary["classes"], summary["labelled"], doubts["labels"]) == (None, None, None)
    assert (part["confusion"], part["perClass"], part["calibration"]) == (None, None, None)
    assert {(group["name"], group["purity"]) for group in part["groups"]} == {(None, None)}
    assert any("No label is known" in note for note in summary["notes"])
    assert summary["models"][0]["scores"]["clusters_used"] == 3


def test_an_empty_group_is_there_and_last(tmp_path):
    part = decode(report(Project(tmp_path, groups=4)), "model-0")
    empty = part["groups"][3]
    assert (empty["size"], empty["name"], empty["purity"]) == (0, None, None)
    assert (empty["prototypes"], empty["least"], empty["between"]) == ([], [], [])
    assert part["order"][-1] == 3
    assert np.array(part["confusion"]["counts"]).shape == (3, 4)


def test_a_thousand_groups(tmp_path):
    project = Project(tmp_path, counts=(60, 4, 8), groups=1000)
    out = report(project)
    part = decode(out, "model-0")
    assert sorted(part["order"]) == list(range(1000))
    write_single_report(project.inputs(), tmp_path / "single.html")
    assert (tmp_path / "single.html").stat().st_size < 1_000_000


@pytest.mark.parametrize("counts", [(12, 0, 0), (10, 1, 1), (2, 0, 1), (1, 0, 1), (1, 0, 0)])
def test_very_few_images(tmp_path, counts):
    project = Project(tmp_path, counts=counts, classes=2, groups=2)
    if not counts[2]:
        project.evaluate = lambda: evaluated_on_none(project)
    out = report(project)
    total = sum(counts)
    places = decode(out, "map")
    assert len(decoded(places["x"], "u2")) == len(decoded(places["y"], "u2")) == total
    neighbors = decode(out, "neighbors")
    assert neighbors["k"] == min(8, total - 1)
    assert len(decoded(neighbors["index"], "u4")) == total * neighbors["k"]


def evaluated_on_none(project):
    """An evaluation as of a project with protocol full, which scores no test images."""
    from dataclasses import asdict

    from sslpipe.nets.model_card import card_for

    folder = project.runs / "evaluate"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"cluster": {"clusters_used": 1}}))
    card = card_for(
        "evaluate", project.store.info, {}, parent=None, inputs=[project.runs / "cluster/model.safetensors"]
    )
    (folder / "card.json").write_text(json.dumps(asdict(card)))


def test_equal_projects_write_equal_bytes_anywhere(tmp_path):
    first = files(report(Project(tmp_path / "one")))
    second = files(report(Project(tmp_path / "another/place")))
    assert first.keys() == second.keys()
    # The card names its inputs by the paths that were given, which are relative in a project.
    different = [path for path in first if first[path] != second[path] and path.name != "card.json"]
    assert not different
    for path, content in first.items():
        assert str(tmp_path).encode() not in content or path.name == "card.json", path


def test_a_changed_seed_changes_the_map_alone(tmp_path):
    project = Project(tmp_path)
    first = report(project)
    project.params["seed"] = 1
    second = report(project, "other")
    assert decode(first, "model-0") == decode(second, "model-0")
    assert decode(first, "neighbors") == decode(second, "neighbors")


def test_names_are_kept_as_they_are(tmp_path):
    project = Project(tmp_path, names=[NASTY[i % len(NASTY)] + str(i) for i in range(28)])
    out = report(project)
    assert decode(out, "images")["names"] == project.names
    text = (out / "data/images.js").read_text()
    assert "</" not in text
    assert "\u2028" not in text


def test_a_sample_is_shown_of_too_many_images(tmp_path):
    project = Project(tmp_path, counts=(40, 10, 30))
    project.params["report"] = {"images": 30}
    out = report(project)
    images, summary = decode(out, "images"), decode(out, "summary")
    assert images["count"] == 30 == sum(summary["images"].values())
    assert "30 of 80 images are shown" in summary["notes"][0]
    place = [project.names.index(name) for name in images["names"]]
    assert place == sorted(place)
    assert decoded(images["label"], "i2").tolist() == project.label[place].tolist()
    assert decoded(decode(out, "model-0")["group"], "u2").tolist() == project.label[place].tolist()


def test_the_map_can_be_left_out(tmp_path):
    project = Project(tmp_path)
    project.params["report"] = {"map": False}
    out = report(project)
    assert not (out / "data/map.js").exists() or decode(out, "map") is None
    assert "The map is left out: report.map is false." in decode(out, "summary")["notes"]


def test_without_stored_features_the_network_s_own_are_compared(tmp_path):
    project = Project(tmp_path)
    inputs = project.inputs()
    (project.runs / "features/card.json").unlink()
    write_report(inputs, tmp_path / "report")
    assert "by the features of pretrain" in decode(tmp_path / "report", "map")["how"]


def test_without_any_model_pixels_are_compared_and_a_line_says_so(tmp_path):
    project = Project(tmp_path)
    project.models, project.params = {}, {"seed": 0}
    out = report(project)
    summary = decode(out, "summary")
    assert summary["models"] == []
    assert any(note.startswith("No model predicts groups") for note in summary["notes"])
    assert "by pixels" in decode(out, "map")["how"]


def test_a_missing_model_is_left_out_with_one_line(tmp_path, capsys):
    project = Project(tmp_path)
    project.params["self_label"] = {}
    assert [entry["name"] for entry in decode(report(project), "summary")["models"]] == ["cluster"]
    lines = capsys.readouterr().out.splitlines()
    assert sum("self-label does not exist and is left out" in line for line in lines) == 1


def test_another_model_than_the_evaluated_one_is_refused(tmp_path):
    project = Project(tmp_path)
    inputs = project.inputs()
    path = project.runs / "evaluate/card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "inputs": {"runs/cluster/model.safetensors": "0" * 64}}))
    with pytest.raises(UserError, match=r"not of the model that is in .*cluster; run 'sslpipe evaluate' again"):
        write_report(inputs, tmp_path / "report")
    path.write_text(json.dumps({**card, "data": "0" * 64}))
    with pytest.raises(UserError, match="data: 000000000000 found, expected ffffffffffff, the store's"):
        write_report(inputs, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_grey_and_deep_images_have_pictures(tmp_path):
    for channels, mode in ((1, "L"), (2, "L"), (3, "RGB"), (5, "RGB")):
        out = report(Project(tmp_path / str(channels), channels=channels))
        with Image.open(out / "sprites/0000.jpg") as sheet:
            assert (sheet.mode, sheet.size) == (mode, (2048, 64))
        said = any("first three of 5 channels" in note for note in decode(out, "summary")["notes"])
        assert said == (channels == 5)


def test_settings_say_what_was_given_and_hide_this_machine(tmp_path):
    project = Project(tmp_path)
    project.params |= {"prepare": {"source": "folder", "folder": {"path": "/home/me/cats"}}, "report": {"neighbors": 3}}
    rows = {(row["block"], row["key"]): row for row in decode(report(project), "summary")["settings"]}
    assert rows["prepare", "folder.path"]["value"] == "…/cats"
    assert rows["report", "neighbors"] == {
        "block": "report",
        "key": "neighbors",
        "value": 3,
        "source": "params.yaml",
    }
    assert rows["report", "map"]["source"] == "default"


def test_training_curves_are_numbers_or_null(tmp_path):
    stages = decode(report(Project(tmp_path)), "training")["stages"]
    assert [stage["name"] for stage in stages] == ["pretrain", "cluster"]
    assert stages[0]["columns"] == ["epoch", "loss", "note"]
    assert stages[0]["rows"] == [[1, 0.5, None], [2, 0.25, None]]
