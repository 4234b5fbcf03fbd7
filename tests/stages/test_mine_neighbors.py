import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sslpipe.io.errors import UserError
from sslpipe.nets.model_file import load_model
from stages.mine_neighbors import mine_neighbors

OUT, FEATURES = Path("runs/mine-neighbors"), Path("runs/features")


def test_writes_neighbours_of_both_splits(finished):
    info = json.loads((finished / "runs/prepare/store.json").read_text())
    for split, k in (("train", 6), ("held_out", 5)):
        folder = finished / OUT / split
        indices, similarities = np.load(folder / "indices.npy"), np.load(folder / "similarities.npy")
        features = np.load(finished / FEATURES / split / "features.npy").astype(np.float32)
        assert indices.shape == similarities.shape == (info[split], k)
        assert features.shape == (info[split], 64)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        assert np.allclose((unit[:, None] * unit[indices]).sum(axis=2), similarities, atol=1e-5)
        assert (indices != np.arange(len(indices))[:, None]).all()


def test_purity_is_that_of_the_labels(finished):
    indices = np.load(finished / OUT / "train/indices.npy")
    label = np.load(finished / "runs/prepare/train/labels.npy")
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    assert metrics["train"]["purity@5"] == pytest.approx((label[indices[:, :5]] == label[:, None]).mean())
    assert metrics["train"]["purity@5"] > 0.5


def test_held_out_images_are_classified_by_their_training_neighbours(finished):
    unit = {}
    for split in ("train", "held_out"):
        features = np.load(finished / FEATURES / split / "features.npy").astype(np.float32)
        unit[split] = features / np.linalg.norm(features, axis=1, keepdims=True)
    label = {split: np.load(finished / f"runs/prepare/{split}/labels.npy") for split in unit}
    votes = len(unit["train"]) // 20  # half of a class of ten, fewer than 200
    right = 0
    for vector, own in zip(unit["held_out"], label["held_out"], strict=True):
        similarity = unit["train"] @ vector
        nearest = np.argsort(-similarity)[:votes]
        total = np.bincount(label["train"][nearest], weights=np.exp(similarity[nearest] / 0.07), minlength=10)
        right += int(total.argmax() == own)
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    assert metrics["held_out"]["knn_acc"] == pytest.approx(right / len(label["held_out"]))
    assert metrics["held_out"]["knn_acc"] > 0.5


def test_runs_by_hand_with_another_k(project, at_once):
    code, out, err = at_once("mine-neighbors", "--k", 3)
    assert code == 0, err
    assert "mine_neighbors.k = 3  (option; params.yaml: 6)" in out
    assert np.load(OUT / "train/indices.npy").shape[1] == 3


def test_the_heads_output_may_be_compared(project):
    before = {name: np.load(OUT / "train" / f"{name}.npy") for name in ("indices", "similarities")}
    mine_neighbors(assignments=["layer=head"])
    after = {name: np.load(OUT / "train" / f"{name}.npy") for name in before}
    assert not np.array_equal(after["indices"], before["indices"])
    network, _ = load_model(Path("runs/pretrain"))
    features = torch.from_numpy(np.load(FEATURES / "train/features.npy")).float()
    with torch.no_grad():
        output = torch.nn.functional.normalize(network.eval().head(features), dim=1).numpy()
    found = (output[:, None] * output[after["indices"]]).sum(axis=2)
    assert np.allclose(found, after["similarities"], atol=1e-5)


def test_faiss_finds_the_same(project):
    before = np.load(OUT / "train/similarities.npy")
    mine_neighbors(backend="faiss")
    assert np.allclose(np.load(OUT / "train/similarities.npy"), before, atol=1e-5)


def test_as_many_neighbours_as_images_is_a_users_mistake(project):
    with pytest.raises(UserError, match=r"mine_neighbors\.k: 5000 is more than the \d+ other training images"):
        mine_neighbors(k=5000)


def test_too_few_held_out_images_say_what_to_raise(project):
    path = Path("runs/prepare/store.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "held_out": 0}))
    with pytest.raises(
        UserError, match=r"held_out_k: 5 is more than the 0 other held-out images; raise prepare\.held_out"
    ):
        mine_neighbors()


def test_a_model_of_other_images_is_refused(project):
    path = Path("runs/prepare/store.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "0" * 64}))
    with pytest.raises(UserError, match=r"runs/pretrain: data: .* found, expected 0000"):
        mine_neighbors()


def test_images_without_labels_have_no_purity(project):
    for split in ("train", "held_out"):
        path = Path("runs/prepare", split, "labels.npy")
        np.save(path, np.full_like(np.load(path), -1))
    mine_neighbors()
    assert json.loads((OUT / "metrics.json").read_text()) == {"train": {}, "held_out": {}}


def test_features_of_another_backbone_are_refused(project):
    path = FEATURES / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "backbone": "0" * 64}))
    before = (OUT / "train/indices.npy").read_bytes()
    with pytest.raises(
        UserError, match=r"card\.json: backbone: 0000.*that of runs/pretrain; run the stage features again"
    ):
        mine_neighbors()
    assert (OUT / "train/indices.npy").read_bytes() == before
