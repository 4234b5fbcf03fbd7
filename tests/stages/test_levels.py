"""Levels of groups: a cluster model of 20 groups, scored, shown, predicted and exported with fewer."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.cluster.hierarchy import is_valid_linkage

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from small_project import decode

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.files import sha256
from sslpipe.metrics.clustering import cluster_accuracy
from sslpipe.metrics.scored_models import changed_models
from sslpipe.nets.inference import probabilities
from sslpipe.nets.levels import groups_at
from sslpipe.nets.model_file import load_model
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.report import report
from stages.self_label import self_label
from stages.tools.export import export
from stages.tools.predict import predict

OWN, GROUPS = 20, 10
CLUSTERED, TREE = Path("runs/cluster"), Path("runs/cluster/merges.npy")
FAST = ["scan_heads.neighbors=6", "scan_heads.steps=200"]


@pytest.fixture(scope="module")
def grouped(finished, tmp_path_factory):
    """A project with 20 clusters and without classifiers; not to be changed."""
    folder = tmp_path_factory.mktemp("levels") / "project"
    shutil.copytree(finished, folder)
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    tree = {key: value for key, value in tree.items() if key not in ("semisup", "finetune")}
    tree["cluster"]["clusters"] = OWN
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cluster(method="scan_heads", assignments=FAST)
        self_label(epochs=1)
        evaluate(assignments=[f"evaluate.groups={GROUPS}"])
    return folder


@pytest.fixture
def levels(grouped, tmp_path, monkeypatch):
    """A copy of that project as the working folder, to be changed at will."""
    folder = tmp_path / "project"
    shutil.copytree(grouped, folder)
    monkeypatch.chdir(folder)
    return folder


def summed(probability, groups=GROUPS):
    """Probabilities of the groups of a level by loops."""
    found = np.zeros((len(probability), groups))
    for own, group in enumerate(groups_at(np.load(TREE), groups)):
        found[:, group] += probability[:, own]
    return found


def test_a_model_of_clusters_has_its_tree(grouped):
    for stage in ("cluster", "self-label"):
        tree = np.load(grouped / "runs" / stage / "merges.npy")
        assert (tree.shape, tree.dtype) == ((OWN - 1, 4), np.float64)
        assert is_valid_linkage(tree)
    assert not (grouped / "runs/pretrain/merges.npy").exists()
    assert not list((grouped / "runs/semisup").rglob("merges.npy"))


@pytest.mark.parametrize("by", ["means", "neighbors"])
def test_the_same_run_writes_the_same_tree_and_means_another_one(levels, by):
    before = TREE.read_bytes()
    cluster(method="scan_heads", assignments=[*FAST, f"levels.by={by}"])
    assert (TREE.read_bytes() == before) == (by == "neighbors")
    assert load_model(CLUSTERED)[1].settings["levels"] == {"by": by}


def test_means_need_stored_features_though_scan_does_not(levels, refused):
    shutil.rmtree("runs/features")
    given = ["--method", "scan", "--epochs", "1", "--set", "compare.images=0", "--set", "scan.head_epochs=0"]
    assert "runs/features/card.json" in refused("cluster", *given, "--set", "levels.by=means")
    cluster(method="scan", epochs=1, assignments=["compare.images=0", "scan.head_epochs=0"])
    assert len(np.load(TREE)) == OWN - 1


@pytest.mark.parametrize("by", ["means", "neighbors"])
def test_a_baseline_that_becomes_the_result_has_its_own_tree(levels, monkeypatch, by):
    monkeypatch.setattr(
        "sslpipe.running.candidates.Candidate.rank", property(lambda each: float(each.name == "kmeans, pixels"))
    )
    cluster(method="scan_heads", assignments=[*FAST, "compare.replace=true", f"levels.by={by}"])
    own, chosen = np.load(CLUSTERED / "trained/merges.npy"), np.load(TREE)
    assert own.shape == chosen.shape == (OWN - 1, 4)
    assert not np.array_equal(own, chosen)
    for folder in (CLUSTERED, CLUSTERED / "trained"):
        predict(folder, [new_images()], neighbors=0, groups=2)


def test_evaluate_scores_the_level(grouped, monkeypatch, read_csv):
    monkeypatch.chdir(grouped)
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert {row["outputs"] for row in metrics.values()} == {GROUPS}  # k-means too
    assert {name: row["merged_from"] for name, row in metrics.items() if "merged_from" in row} == {
        "cluster": OWN,
        "self_label": OWN,
    }
    store = Store(Path("runs/prepare"))
    scored, label = store.scored()
    probability = probabilities(load_model(CLUSTERED)[0].eval(), Images(scored, torch.device("cpu")))
    expected, _ = cluster_accuracy(summed(probability).argmax(axis=1), label, n_clusters=GROUPS, n_classes=10)
    assert metrics["cluster"]["cluster_acc"] == pytest.approx(expected, abs=0.005)  # features are rounded
    assert len(read_csv(Path("runs/evaluate/cluster/clusters.csv"))) == GROUPS
    inputs = json.loads(Path("runs/evaluate/card.json").read_text())["inputs"]
    assert inputs["runs/cluster/merges.npy"] == sha256(TREE)


def test_evaluate_and_table_say_it(levels, at_once, capsys):
    code, out, _ = at_once("evaluate", "--set", "evaluate.groups=4")
    assert code == 0
    assert "cluster: 20 groups merged to 4" in out.splitlines()
    assert "self_label: 20 groups merged to 4" in out.splitlines()
    assert "cluster: 20 groups merged to 4" in at_once("table")[1]
    evaluate()
    assert "merged" not in capsys.readouterr().out
    assert all("merged_from" not in row for row in json.loads(Path("runs/evaluate/metrics.json").read_text()).values())


def test_a_model_whose_files_have_changed_is_named_once(levels):
    cluster(method="scan_heads", assignments=[*FAST[:1], "scan_heads.steps=20"])
    assert changed_models(Path("runs/evaluate")) == ["runs/cluster"]


def new_images(count=12):
    """A folder with some of the test images."""
    array = Store(Path("runs/prepare")).images("test")
    Path("new").mkdir(exist_ok=True)
    for place in range(count):
        Image.fromarray(np.asarray(array[place][0])).save(f"new/{place:02}.png")
    return Path("new")


def test_predict_and_export_sum_the_probabilities(levels, read_csv):
    folder = new_images()
    images = Images(Store(Path("runs/prepare")).images("test"), torch.device("cpu"))
    expected = summed(probabilities(load_model(CLUSTERED)[0].eval(), images))[:12]
    predict(CLUSTERED, [folder], neighbors=0, groups=GROUPS)
    rows = read_csv(Path("predictions.csv"))
    assert [row["prediction"] for row in rows] == [f"cluster {each}" for each in expected.argmax(axis=1)]
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], expected.max(axis=1), atol=2e-4)
    export(CLUSTERED, "torch", groups=GROUPS)
    out = Path("exported/cluster-10")
    found = torch.export.load(out / "model.pt2").module()(torch.from_numpy(np.array(images.array[:12])))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    about = json.loads((out / "model.pt2.json").read_text())
    assert about["names"] == [f"cluster {each}" for each in range(GROUPS)]
    assert about["merged"] == [
        [own for own, to in enumerate(groups_at(np.load(TREE), GROUPS)) if to == group] for group in range(GROUPS)
    ]
    text = (out / "README.md").read_text()
    assert "The model has 20 clusters of its own; the probability of an output is the sum of theirs." in text
    assert f"| 0 | cluster 0 | {', '.join(map(str, about['merged'][0]))} |" in text
    assert "`cluster_acc`" in text  # evaluate has scored this level


def test_an_export_of_another_level_has_no_metrics_of_this_one(levels):
    export(CLUSTERED, "torch")
    text = Path("exported/cluster/README.md").read_text()
    assert "no metrics of exactly these weights and clusters were found" in text
    assert "clusters of its own" not in text


def test_the_report_shows_the_level_and_what_its_groups_consist_of(levels, at_once):
    report(assignments=[f"report.groups={GROUPS}", "report.map=false"])
    out = Path("runs/report")
    summary = decode(out, "summary")
    assert [(model["groups"], model["own"]) for model in summary["models"]] == [(GROUPS, OWN)] * 2
    assert not any("report.groups" in note for note in summary["notes"])
    part, merged = decode(out, "model-0"), groups_at(np.load(TREE), GROUPS)
    for group in part["groups"]:
        assert {own for own, _ in group["parts"]} == {own for own, to in enumerate(merged) if to == group["id"]}
        sizes = [size for _, size in group["parts"]]
        assert sizes == sorted(sizes, reverse=True)
    assert sum(size for group in part["groups"] for _, size in group["parts"]) == 1797
    _, out, _ = at_once("report", "--set", "report.map=false")
    assert "cluster is shown with 20 groups (report.groups), while the table of models has scored it with 10" in out


def test_mistakes_are_one_line(levels, refused):
    folder = new_images(1)
    found = refused("evaluate", "--set", "evaluate.groups=21")
    assert found.endswith("evaluate.groups: 21 found, expected 2 to 20, the number of clusters of runs/cluster\n")
    assert "evaluate.groups: 1 is out of range, expected at least 2" in refused("evaluate", "--set", "groups=1")
    for command in (("predict", CLUSTERED, folder), ("export", CLUSTERED)):
        assert "--groups: 1 found, expected 2 to 20" in refused(*command, "--groups", "1")
        assert "--groups: 21 found, expected 2 to 20" in refused(*command, "--groups", "21")
    assert "predicts classes, expected clusters" in refused("predict", "runs/semisup/fixmatch", folder, "--groups", "2")
    Path("names.csv").write_text("cluster,class\n12,name\n")
    found = refused("predict", CLUSTERED, folder, "--groups", str(GROUPS), "--names", "names.csv")
    assert "--names: names.csv: cluster 12 found, expected 0 to 9; name the clusters of 10 groups" in found
    evaluate(assignments=[f"evaluate.groups={GROUPS}"])
    table = "runs/evaluate/cluster/clusters.csv"
    found = refused("predict", CLUSTERED, folder, "--names", table)
    assert f"--names: {table}: names of 10 groups found, expected those of 20; give --groups 10" in found
    assert "expected those of 4; run the stage evaluate again" in refused(
        "predict", CLUSTERED, folder, "--groups", "4", "--names", table
    )
    evaluate()
    other = Path(table).read_text().splitlines()
    digest = sha256(Path(CLUSTERED) / "model.safetensors")[:12]
    assert all(line.endswith(f",{digest}") for line in other[1:])
    Path("names.csv").write_text("\n".join(line.replace(digest, "0" * 12) for line in other))
    expected = f"--names: names.csv: names of clusters of 1 other model found, expected those of {CLUSTERED}; run the"
    assert expected in refused("predict", CLUSTERED, folder, "--names", "names.csv")
    TREE.unlink()
    for command, where in (
        (("evaluate", "--set", "evaluate.groups=4"), "evaluate.groups"),
        (("report", "--set", "report.groups=4"), "report.groups"),
        (("predict", CLUSTERED, folder, "--groups", "4"), "--groups"),
        (("export", CLUSTERED, "--groups", "4"), "--groups"),
    ):
        expected = f"{where}: runs/cluster/merges.npy does not exist, which says how clusters merge; run the stage"
        assert f"{expected} 'cluster' again\n" in refused(*command)
    assert not Path("exported").exists()
    evaluate()  # which needs no tree
