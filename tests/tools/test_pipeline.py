"""The stages of a project, whose methods with few labels may need stored features or not."""

import importlib

import pytest
import yaml

from sslpipe.io.errors import UserError
from sslpipe.io.params import siblings
from sslpipe.tools.pipeline import pipeline, same_pipeline, stages_of, trains_in_epochs

SETTINGS = {"prepare": {"source": "digits"}, "pretrain": {"method": "simclr", "simclr": {}}}


def with_methods(*methods, **blocks):
    return {**SETTINGS, **blocks, "semisup": {"methods": {method: {"start": "pretrain"} for method in methods}}}


def test_methods_that_read_no_features_do_without_their_stages():
    assert stages_of(with_methods("fixmatch")) == ("prepare", "pretrain", "semisup", "evaluate", "report")
    text = pipeline(with_methods("fixmatch"))
    assert "runs/features" not in text
    assert "runs/mine-neighbors" not in text


@pytest.mark.parametrize("method", ["propagation", "voting_probes"])
def test_methods_on_features_need_features_and_neighbours(method):
    with pytest.raises(UserError, match=r"params.yaml: (features|mine_neighbors): missing, expected a block: semisup"):
        stages_of(with_methods("fixmatch", method))
    settings = with_methods(method, features={}, mine_neighbors={})
    assert stages_of(settings) == ("prepare", "pretrain", "features", "mine-neighbors", "semisup", "evaluate", "report")
    text = pipeline(settings)
    assert "runs/features" in text
    assert "runs/mine-neighbors" in text


def test_reliable_labels_need_neighbours():
    settings = with_methods("fixmatch", mine_neighbors={})
    assert "runs/mine-neighbors" in pipeline(settings)
    settings["semisup"]["methods"]["fixmatch"] = {"start": "cluster", "labels": "reliable"}
    del settings["mine_neighbors"]
    with pytest.raises(UserError, match=r"^params.yaml: (features|mine_neighbors): missing, expected a block: semisup"):
        stages_of(settings)


def test_finetune_uses_features_where_they_are_stored_and_needs_none():
    finetune = {"finetune": {"methods": {"linear": {"start": "pretrain"}}, "linear": {}}}
    assert stages_of({**SETTINGS, **finetune}) == ("prepare", "pretrain", "finetune", "evaluate", "report")
    assert "runs/features" not in pipeline({**SETTINGS, **finetune})
    deps = yaml.safe_load(pipeline({**SETTINGS, **finetune, "mine_neighbors": {}}))["stages"]["finetune"]["do"]["deps"]
    assert {"runs/features/card.json", "runs/features/train"} <= set(deps)


def test_curves_over_epochs_are_those_of_methods_that_have_epochs():
    trained = {"method": "scan", "scan": {}}, {"method": "confident", "confident": {}}
    found = {"method": "scan_heads", "scan_heads": {}}, {"method": "neighbors", "neighbors": {}}
    texts = []
    for (cluster, self_label), pretrain in ((trained, "simclr"), (found, "frozen")):
        settings = {"prepare": {"source": "digits"}, "pretrain": {"method": pretrain, pretrain: {}}}
        texts.append(pipeline({**settings, "mine_neighbors": {}, "cluster": cluster, "self_label": self_label}))
    assert [text.count("history.csv: ") for text in texts] == [4, 0]
    assert all("neighbour purity" in text for text in texts)
    assert same_pipeline(*texts)
    assert not same_pipeline(texts[0], texts[1] + "# mine\n")


def test_a_file_of_weights_is_a_dependency_of_pretrain():
    settings = {"prepare": {"source": "digits"}, "pretrain": {"method": "frozen", "frozen": {}}}
    for weights, expected in (("../w.pth", ["../w.pth"]), (["package", None, "w.pth"], ["w.pth"]), (None, [])):
        settings["pretrain"]["frozen"] = {"weights": weights}
        deps = yaml.safe_load(pipeline(settings))["stages"]["pretrain"]["deps"]
        assert [dep for dep in deps if not dep.startswith("runs/")] == expected
    settings["pretrain"]["method"] = "simclr"
    assert "w.pth" not in pipeline(settings)


def test_a_table_of_labelled_images_is_a_dependency_of_prepare():
    def deps(prepare):
        return yaml.safe_load(pipeline({**SETTINGS, "prepare": prepare}))["stages"]["prepare"].get("deps")

    assert deps({"source": "digits", "labelled": {"images": "chosen.csv"}}) == ["chosen.csv"]
    assert deps({"source": "digits", "labelled": {"per_class": 4}}) is None
    listing = "runs/list-images/files.csv"  # it has the table
    folder = {"source": "folder", "folder": {"path": "photos"}, "labelled": {"images": "chosen.csv"}}
    assert deps(folder) == [listing]


@pytest.mark.parametrize("package", ["pretrain", "cluster", "self_label", "semisup", "finetune"])
def test_the_text_of_a_method_tells_whether_it_trains_in_epochs(package):
    path = f"sslpipe.methods.{package}"
    for name in siblings(path):
        method = importlib.import_module(f"{path}.{name}")
        assert trains_in_epochs(path, name) == (method.Settings.fit is not None), name
