import json
from pathlib import Path

import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.files import sha256
from sslpipe.nets.model_file import load_model
from sslpipe.nets.unit_heads import ConsensusHead
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.self_label import self_label

OUT = Path("runs/self-label")


def test_writes_a_model_whose_parent_is_the_clusters(finished, read_csv):
    _, card = load_model(finished / OUT)
    assert card.parent == sha256(finished / "runs/cluster/model.safetensors")
    rows = read_csv(finished / OUT / "history.csv")
    assert all(0 < float(row["confident"]) <= 1 for row in rows)


@pytest.mark.parametrize("targets", ["model", "averaged"])
def test_without_a_confident_image_the_groups_stay_and_it_says_what_to_lower(project, capsys, targets):
    self_label(threshold=1.0, assignments=[f"confident.targets={targets}"])
    assert "the clusters stay as they are; lower self_label.confident.threshold (1.0)" in capsys.readouterr().out
    assert sha256(OUT / "model.safetensors") == sha256(Path("runs/cluster/model.safetensors"))


def test_the_averaged_model_may_give_the_answers(project):
    self_label(epochs=1, assignments=["confident.targets=averaged", "confident.ema_decay=0.5"])
    assert (OUT / "model.safetensors").exists()


def test_reliable_neighbours_give_the_start_another_head(project, read_csv, capsys):
    self_label(method="neighbors", assignments=["neighbors.neighbors=6"])
    start, (network, card) = load_model(Path("runs/cluster"))[0], load_model(OUT)
    assert isinstance(network.head, ConsensusHead)
    assert network.head.settings.outputs == 10
    assert all(value.equal(start.backbone.state_dict()[name]) for name, value in network.backbone.state_dict().items())
    assert card.settings["method"] == "neighbors"
    assert "runs/features/card.json" in card.inputs
    assert "runs/mine-neighbors/train/indices.npy" in card.inputs
    (row,) = read_csv(OUT / "history.csv")
    assert set(row) == {"kept", "changed", "modularity", "start_modularity"}
    assert 0 < float(row["kept"]) <= 1
    said = " ".join(capsys.readouterr().out.split())
    assert "of 1213 images, those with at least 0.7 of their 6 neighbours in their group" in said


def test_groups_of_k_means_are_refined_and_evaluated(project):
    cluster(method="kmeans")
    self_label(method="neighbors", assignments=["neighbors.neighbors=6"])
    evaluate()
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert metrics["self_label"]["cluster_acc"] > metrics["cluster"]["cluster_acc"] - 0.05
    assert metrics["self_label"]["outputs"] == 10


def test_stored_features_of_another_backbone_are_refused(project):
    cluster(epochs=1, assignments=["scan.head_epochs=0"])
    line = r"^self_label\.neighbors: the features in runs/features are not those of the backbone in runs/cluster, which"
    with pytest.raises(UserError, match=line):
        self_label(method="neighbors", assignments=["neighbors.neighbors=6"])


def test_fewer_mined_neighbours_than_asked_for_are_refused(project):
    with pytest.raises(UserError, match=r"^self_label\.neighbors\.neighbors: 20 asked, 6 mined"):
        self_label(method="neighbors")


def test_threshold_is_no_setting_of_another_method(project):
    with pytest.raises(UserError, match=r"^self_label\.neighbors\.threshold: unknown key"):
        self_label(method="neighbors", threshold=0.5)
