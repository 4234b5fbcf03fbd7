import json
from pathlib import Path

import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.files import sha256
from sslpipe.nets.cosine_heads import CosineHead
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.model_file import load_model
from sslpipe.nets.unit_heads import CentroidHead, ConsensusHead
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.finetune import finetune
from stages.self_label import self_label
from stages.semisup import semisup

OUT = Path("runs/cluster")
TEMI = [
    "temi.heads=4",
    "temi.hidden=32",
    "temi.embedding=16",
    "temi.epochs=20",
    "temi.warmup_epochs=2",
    "temi.lr=0.003",
]
"""Settings with which temi takes less time."""


def test_writes_a_network_with_one_head_and_its_parent(finished, read_csv):
    network, card = load_model(finished / OUT)
    assert network.head.out_features == 10
    assert card.parent == sha256(finished / "runs/pretrain/model.safetensors")
    rows = read_csv(finished / OUT / "history.csv")
    assert {"loss", "consistency", "entropy", "held_out/loss", "held_out/clusters"} <= set(rows[0])
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


@pytest.mark.parametrize(
    "assignments",
    [["scan.neighbors=0"], ["scan.heads=3"], ["clusters=20"], ["scan.head_epochs=1", "scan.heads=2"]],
    ids=["K = 0", "several heads", "over-clustering", "cached features"],
)
def test_variants_run_to_the_end(project, assignments):
    cluster(epochs=1, assignments=assignments)
    network, _ = load_model(OUT)
    assert network.head.out_features == (20 if "clusters=20" in assignments else 10)


def test_an_over_clustering_is_merged_and_goes_through_the_line(project):
    cluster(epochs=2, assignments=["clusters=30", "scan.merge_to=10", "scan.head_epochs=1"])
    network, card = load_model(OUT)
    assert isinstance(network.head, MergedHead)
    assert (network.head.groups, network.head.linear.out_features) == (10, 30)
    assert card.settings["merge_to"] == 10
    self_label(epochs=1)
    assert isinstance(load_model(Path("runs/self-label"))[0].head, MergedHead)
    for method in ("fixmatch", "simmatch", "suave"):
        semisup(method, start="self-label", epochs=1)
    finetune("linear", start="self-label")
    evaluate()
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert metrics["cluster"]["cluster_acc"] > 0.3
    assert metrics["semisup.fixmatch"]["acc"] > 0.3


@pytest.mark.parametrize(
    ("method", "head", "brief"),
    [
        ("kmeans", CentroidHead, []),
        ("spectral", ConsensusHead, []),
        ("temi", CosineHead, TEMI),
        ("turtle", ConsensusHead, ["turtle.steps=200", "turtle.lr=0.01"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_groups_of_stored_features_go_through_the_line(project, read_csv, method, head, brief):
    """Without a training loop; the images themselves are not read again."""
    cluster(method=method, assignments=brief)
    network, card = load_model(OUT)
    assert isinstance(network.head, head)
    assert (card.settings["method"], card.settings["clusters"]) == (method, 10)
    (row,) = read_csv(project / OUT / "history.csv")
    assert 0 < float(row["modularity"]) < 0.9
    for name, value in load_model(Path("runs/pretrain"))[0].backbone.state_dict().items():
        assert value.equal(network.backbone.state_dict()[name]), name
    first = sha256(OUT / "model.safetensors")
    cluster(method=method, assignments=brief)
    assert sha256(OUT / "model.safetensors") == first
    self_label(epochs=1)
    assert isinstance(load_model(Path("runs/self-label"))[0].head, head)
    for learner in ("fixmatch", "simmatch"):
        semisup(learner, start="cluster", epochs=1)
    finetune("linear", start="cluster")
    evaluate()
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert metrics["cluster"]["cluster_acc"] > 0.3
    assert metrics["semisup.fixmatch"]["acc"] > 0.3


def test_methods_on_stored_features_keep_no_copy_of_images(project, monkeypatch):
    copied = []
    monkeypatch.setattr("sslpipe.data.images.fits", lambda size, device, free: copied.append(size) or True)
    for method, more in {
        "kmeans": [],
        "spectral": [],
        "scan_heads": ["scan_heads.neighbors=6", "scan_heads.steps=20"],
        "temi": TEMI,
        "turtle": ["turtle.steps=5"],
    }.items():
        cluster(method=method, assignments=["compare.images=100", *more])
    self_label(method="neighbors", assignments=["neighbors.neighbors=6"])
    for method in ("propagation", "voting_probes"):
        semisup(method)
    assert not copied


def test_head_only_leaves_the_backbone_as_it_was(project):
    cluster(epochs=1, assignments=["scan.head_epochs=1"])
    before, after = load_model(Path("runs/pretrain"))[0], load_model(OUT)[0]
    for name, value in before.backbone.state_dict().items():
        assert value.equal(after.backbone.state_dict()[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assignments": ["scan.neighbors=7"]}, r"cluster\.scan\.neighbors: 7 asked, 6 mined; raise mine_neighbors\.k"),
        ({"assignments": ["scan.merge_to=11"]}, r"cluster\.scan\.merge_to: 11 of 10 clusters with 5 neighbors is set"),
        (
            {"assignments": ["scan.merge_to=5", "scan.neighbors=0"]},
            r"cluster\.scan\.merge_to: 5 of 10 clusters with 0 neighbors is set",
        ),
        ({"clusters": 5000}, r"cluster\.clusters: 5000 is more than \d+ training images"),
        ({"entropy_weight": -1.0}, r"cluster\.scan\.entropy_weight: -1\.0 is out of range"),
    ],
)
def test_mistakes_are_one_line(project, options, message):
    with pytest.raises(UserError, match=message):
        cluster(**options)


def test_neighbours_of_other_images_are_refused(project):
    import numpy as np

    path = Path("runs/mine-neighbors/train/indices.npy")
    np.save(path, np.load(path)[:-1])
    with pytest.raises(UserError, match=r"indices\.npy: \d+ rows found, expected \d+"):
        cluster()


def test_weights_of_another_architecture_are_refused(project):
    path = Path("runs/pretrain/model.json")
    card = json.loads(path.read_text())
    card["network"]["backbone"]["name"] = "resnet18"
    path.write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"model\.safetensors: .*missing"):
        cluster()
