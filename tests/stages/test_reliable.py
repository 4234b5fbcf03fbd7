"""Reliable labels: a method with few labels learns the groups of a cluster model, and its model predicts clusters."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.cluster import KMeans

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from small_project import decode

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.files import sha256
from sslpipe.metrics.agreement import reliable_images
from sslpipe.metrics.table import report_unused
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.inference import head_logits, infer, probabilities
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.running.features import open_features
from sslpipe.tools.ask_models import find_outputs
from sslpipe.tools.export import export_model
from stages.evaluate import evaluate
from stages.finetune import finetune
from stages.report import report
from stages.semisup import semisup
from stages.tools.predict import predict

GROUPS, MODEL = Path("runs/self-label"), Path("runs/semisup/fixmatch")
OF_CLUSTERS = {"cluster_acc", "nmi", "ari", "many_to_one_acc", "clusters_used", "largest_share", "mean_confidence"}
OF_CLASSES = {"acc", "gap", "ece", "best_of_1_acc", "best_of_10_acc", "best_of_100_acc", "labels"}
ENTRY = {"start": "self-label", "labels": "reliable", "reliable": {"agreement": 0.8}}


def save_groups(count=10, out=GROUPS):
    """Write a cluster model whose groups are those of k-means on the pretrained features."""
    store, network = Store(Path("runs/prepare")), load_model(Path("runs/pretrain"))[0].eval()
    images = Images(store.images("train"), torch.device("cpu"))
    features = infer(network.features, images).numpy()
    found = KMeans(count, n_init=10, random_state=0).fit(features / features.std())
    centers = torch.from_numpy(found.cluster_centers_).float()
    network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=count))
    with torch.no_grad():
        network.head.weight.copy_(2 * centers / features.std())
        network.head.bias.copy_(-centers.square().sum(dim=1))
    out.mkdir(parents=True, exist_ok=True)
    save_model(out, network, card_for("self-label", store.info, {"method": "confident"}, parent=None))


def change(**entries):
    """Replace the methods that run."""
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["semisup"]["methods"] = entries
    tree["finetune"]["methods"] = {"linear": {"start": "semisup/fixmatch"}}
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.fixture(scope="module")
def learned(finished, tmp_path_factory):
    """A project in which two methods have learned the groups of k-means; not to be changed."""
    folder = tmp_path_factory.mktemp("reliable") / "project"
    shutil.copytree(finished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_groups()
        change(fixmatch=ENTRY, suave=ENTRY)
        semisup("fixmatch", epochs=6, batch=60)
        semisup("suave")
        finetune("linear")
        evaluate()
        report()
    return folder


@pytest.fixture
def own(learned, tmp_path, monkeypatch):
    """A copy of that project as the working folder, to be changed at will."""
    folder = tmp_path / "project"
    shutil.copytree(learned, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def metrics(learned):
    return json.loads((learned / "runs/evaluate/metrics.json").read_text())


def test_the_card_has_no_classes_and_says_what_was_learned(learned):
    for method in ("fixmatch", "suave"):
        _, card = load_model(learned / "runs/semisup" / method)
        assert (card.classes, card.predicts_clusters) == ((), True)
        assert "labels" not in card.settings
        found = card.settings["reliable_labels"]
        assert (found["groups"], found["agreement"], found["neighbors"], found["share"]) == (10, 0.8, 6, 1.0)
        assert 300 < found["images"] < 1213
        assert card.parent == sha256(learned / GROUPS / "model.safetensors")
        assert set(card.inputs) == {"runs/mine-neighbors/train/indices.npy", "runs/features/card.json"}
    assert "monitor" not in (learned / MODEL / "history.csv").read_text()


def test_it_is_scored_as_clusters_and_its_layers_too(metrics):
    rows = {name: row for name, row in metrics.items() if name.startswith("semisup.")}
    assert {"semisup.fixmatch", "semisup.suave", "semisup.suave/projection_1"} <= set(rows)
    for row in rows.values():
        assert set(row) >= OF_CLUSTERS | {"reliable_labels", "start"}
        assert not OF_CLASSES & set(row)


def test_it_is_as_good_as_its_groups(metrics):
    assert metrics["semisup.fixmatch"]["cluster_acc"] >= metrics["self_label"]["cluster_acc"]


def test_the_report_shows_groups(learned):
    models = {model["name"]: model for model in decode(learned / "runs/report", "summary")["models"]}
    assert models["semisup.fixmatch"]["kind"] == models["semisup.suave"]["kind"] == "groups"
    assert models["finetune.linear"]["kind"] == "classes"
    part = decode(learned / "runs/report", models["semisup.fixmatch"]["file"])
    assert part["calibration"] is None


def test_predictions_and_exports_name_clusters(own):
    network, _ = load_model(MODEL)
    images = Images(Store(Path("runs/prepare")).images("test"), torch.device("cpu"))
    Path("new").mkdir()
    for place in range(5):
        Image.fromarray(np.asarray(images.array[place][0])).save(f"new/{place}.png")
    predict(MODEL, [Path("new")], neighbors=0)
    expected = probabilities(network.eval(), images)[:5].argmax(axis=1)
    rows = Path("predictions.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [f"cluster {each}" for each in expected]
    written = export_model(MODEL, "torch", None)
    about = json.loads(written.path.with_name("model.pt2.json").read_text())
    assert about["names"] == [f"cluster {each}" for each in range(10)]
    assert "probabilities of the clusters" in about["output"]["meaning"]
    text = (written.path.parent / "README.md").read_text()
    for words in ("predicts one of 10 clusters", "No label used.", "Clusters have no names", "`cluster_acc`"):
        assert words in text
    assert "`acc`" not in text


def test_it_is_no_classifier_for_questions(own):
    shutil.copytree(MODEL, "runs/semisup/propagation", dirs_exist_ok=True)
    store = Store(Path("runs/prepare"))
    stored = open_features(Path("runs/features"), store, Path("runs/pretrain"))
    groups, classifier = find_outputs(Path("runs"), None, store, stored, torch.device("cpu"))
    assert (groups.folder, classifier.folder) == (GROUPS, Path("runs/semisup/voting_probes"))
    shutil.rmtree("runs/semisup/voting_probes")
    _, classifier = find_outputs(Path("runs"), None, store, stored, torch.device("cpu"))
    assert classifier.folder == Path("runs/finetune/linear")
    shutil.rmtree("runs/finetune")
    chosen, classifier = find_outputs(Path("runs"), MODEL, store, stored, torch.device("cpu"))
    assert (chosen.folder, chosen.classes, classifier) == (MODEL, (), None)


def test_its_clusters_are_matched_to_classes_by_methods_with_labels(own, capsys):
    finetune("linear")
    assert "runs/semisup/fixmatch: clusters matched to classes by 40 labels" in capsys.readouterr().out
    semisup("simmatch", start="semisup/suave", epochs=1, batch=600)  # whose head is replaced
    assert len(load_model(Path("runs/semisup/simmatch"))[1].classes) == 10


def test_a_line_says_what_was_taken_and_no_label_changes_the_model(own, capsys):
    before = sha256(MODEL / "model.safetensors")
    semisup("fixmatch", epochs=6, batch=60)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("semisup.methods.fixmatch: la")]
    count = load_model(MODEL)[1].settings["reliable_labels"]["images"]
    assert f": labels of {count} of 1,213 images in 10 of 10 groups of {GROUPS}, with at least 0.8 of 6 " in said
    assert said.endswith("; semisup.methods.fixmatch.reliable.agreement and .share change them")
    purity = float(said.partition("purity ")[2].partition(";")[0])
    groups = by_stored_features(GROUPS)
    kept = reliable_images(
        groups.argmax(axis=1),
        groups.max(axis=1),
        np.load("runs/mine-neighbors/train/indices.npy"),
        agreement=0.8,
        share=1.0,
    )
    label, group = np.load("runs/prepare/train/labels.npy"), groups.argmax(axis=1)
    most = sum(np.bincount(label[kept][group[kept] == each]).max() for each in range(10))
    assert purity == pytest.approx(most / len(kept), abs=5e-4)
    assert sha256(MODEL / "model.safetensors") == before
    # Without any label the model is the same.
    forget_labels()
    semisup("fixmatch", epochs=6, batch=60)
    assert "purity" not in capsys.readouterr().out
    assert sha256(MODEL / "model.safetensors") == before


def forget_labels():
    """Make the project one in which no label is known."""
    for path in Path("runs/prepare").glob("*/labels.npy"):
        np.save(path, np.full_like(np.load(path), -1))
    for name in ("index", "label"):
        np.save(f"runs/prepare/labelled/{name}.npy", np.zeros(0, np.int64))
    Path("runs/prepare/labelled/classes.json").write_text("[]")


def by_stored_features(folder):
    """The probabilities [N, K] of a model on the pretrained backbone for the training images."""
    features = np.load("runs/features/train/features.npy")
    return head_logits(load_model(folder)[0], features).softmax(dim=1).numpy()


def test_a_project_without_labels_is_evaluated(own, capsys):
    forget_labels()
    tree = yaml.safe_load(Path("params.yaml").read_text())
    del tree["finetune"]
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    evaluate()
    row = json.loads(Path("runs/evaluate/metrics.json").read_text())["semisup.fixmatch"]
    assert {"clusters_used", "mean_confidence", "reliable_labels"} <= set(row)
    assert not (OF_CLASSES | {"cluster_acc"}) & set(row)


def test_groups_without_a_reliable_image_are_left_out(own, capsys):
    for folder in (GROUPS, Path("runs/cluster")):  # evaluate needs as many in both
        save_groups(60, folder)
    semisup("fixmatch", epochs=1, batch=600, assignments=["semisup.methods.fixmatch.reliable.agreement=1.0"])
    said = capsys.readouterr().out
    found = load_model(MODEL)[1].settings["reliable_labels"]
    assert 2 <= found["groups"] < 60
    assert f"semisup.methods.fixmatch: {60 - found['groups']} of 60 groups are left out, since none of their" in said
    assert f", so the model has {found['groups']} clusters; a lower semisup.methods.fixmatch.reliable.agr" in said
    evaluate()
    row = json.loads(Path("runs/evaluate/metrics.json").read_text())["semisup.fixmatch"]
    assert row["outputs"] == found["groups"]


def test_a_share_of_each_group_is_taken(own):
    semisup("fixmatch", epochs=1, batch=600, assignments=["semisup.methods.fixmatch.reliable.share=0.1"])
    sizes = np.bincount(by_stored_features(GROUPS).argmax(axis=1))
    assert load_model(MODEL)[1].settings["reliable_labels"]["images"] == np.ceil(sizes * 0.1 - 1e-9).sum()


@pytest.mark.parametrize("method", ["alternation", "mixmatch", "simmatch", "supervised", "uda", "daino"])
def test_every_method_learns_them(own, method):
    semisup(method, start="self-label", labels="reliable", epochs=1, batch=600)
    card = load_model(Path("runs/semisup", method))[1]
    assert (card.classes, card.settings["reliable_labels"]["agreement"]) == ((), 0.95)


@pytest.mark.parametrize("method", ["propagation", "voting_probes"])
def test_methods_without_training_learn_them_on_stored_features(own, method):
    semisup(method, start="self-label", labels="reliable")
    card = load_model(Path("runs/semisup", method))[1]
    assert card.predicts_clusters
    assert "runs/features/card.json" in card.inputs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "pretrain"], "semisup.methods.fixmatch.start: pretrain found, expected cluster or self-label"),
        (["--start", "prepare"], "semisup.methods.fixmatch.start: prepare found, expected cluster or self-label"),
        (["--start", "semisup/simmatch"], "semisup.methods.fixmatch.start: semisup/simmatch found, expected cluster"),
        (["--labels", "relieble"], "semisup.methods.fixmatch.labels: unknown value 'relieble'; did you mean 'relia"),
        (["--set", "semisup.methods.fixmatch.reliable.neighbors=7"], "reliable.neighbors: 7 asked, 6 mined; raise mi"),
        (["--set", "semisup.methods.fixmatch.reliable.share=0"], "reliable.share: 0.0 is out of range, expected above"),
        (["--set", "semisup.methods.fixmatch.reliable.agrement=1"], "agrement: unknown key; did you mean 'agreement'"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line_and_cost_nothing(own, refused, arguments, message):
    before = sha256(MODEL / "model.safetensors")
    assert message in refused("semisup", "--method", "fixmatch", *arguments)
    assert sha256(MODEL / "model.safetensors") == before


def test_reliable_images_in_one_group_alone_are_refused(own, refused):
    indices = np.load("runs/mine-neighbors/train/indices.npy")
    group = by_stored_features(GROUPS).argmax(axis=1)
    first, others = np.flatnonzero(group == 0), np.flatnonzero(group != 0)
    indices[first], indices[others] = first[0], first[0]
    np.save("runs/mine-neighbors/train/indices.npy", indices)
    line = refused("semisup", "--method", "fixmatch")
    assert "fixmatch.reliable.agreement: with 0.8, 1 of 10 groups have reliable images, expected at least 2" in line


def test_neighbours_of_other_images_are_refused(own, refused):
    card = json.loads(Path("runs/mine-neighbors/card.json").read_text())
    Path("runs/mine-neighbors/card.json").write_text(json.dumps({**card, "data": "1" * 64}))
    assert "mine-neighbors/card.json: data: 111111111111 found, expected" in refused("semisup", "--method", "fixmatch")


def test_a_card_of_groups_with_classes_is_refused(own, refused):
    card = json.loads((MODEL / "model.json").read_text())
    (MODEL / "model.json").write_text(json.dumps({**card, "classes": list("0123456789")}))
    assert "model.json: classes: 10 found, expected none, since its outputs are clusters" in refused("evaluate")


def test_one_cluster_in_use_is_called_a_cluster(capsys):
    row = {"clusters_used": 9, "outputs": 10}
    report_unused("semisup.fixmatch", row)
    assert capsys.readouterr().out == ""
    report_unused("semisup.fixmatch", {**row, "reliable_labels": 400})
    assert "semisup.fixmatch: all images are in 9 of 10 clusters" in capsys.readouterr().out
