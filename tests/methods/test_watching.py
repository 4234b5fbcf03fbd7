"""What is measured of a run while it goes on: it changes nothing of the run, and is what it says it is."""

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from every_method import METHODS, train
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.engine.live import Live
from sslpipe.io.errors import UserError
from sslpipe.nets.network import BackboneSettings, Network, build_network
from sslpipe.running import watching
from sslpipe.running.watching import FirstViews, KnnAccuracy, known_sample, live_folder, side_by_side, undisturbed

WATCHED = {name for name in METHODS if name.startswith(("pretrain/", "cluster/", "self_label/"))}
CPU = torch.device("cpu")


class Store:
    """A store of the digits; keeps the names of the splits whose labels were opened."""

    def __init__(self, digits, **labels):
        self.splits = {"train": digits[0].array, "held_out": digits[1].array}
        self.given = {"train": np.array(digits[2]), "held_out": np.array(digits[3])} | labels
        self.info = SimpleNamespace(count=lambda split: len(self.splits[split]))
        self.opened = []

    def images(self, split):
        return self.splits[split]

    def labels(self, split):
        self.opened.append(split)
        return self.given[split]


class Kept:
    """A log that keeps what it is given."""

    def __init__(self, folder):
        self.rows, self.sheets = [], []

    def row(self, row):
        self.rows.append(row)

    def images(self, name, images, step):
        self.sheets.append((name, images, step))

    def close(self):
        self.rows.append("closed")


@pytest.fixture
def at_once(monkeypatch):
    """Measure at every row, however long it takes."""
    monkeypatch.setattr(watching, "AFTER", 0.0)
    monkeypatch.setattr(watching, "SHARE", 1e9)


@pytest.fixture(scope="module")
def few(digits):
    return Images(digits[0].array[:60], CPU), digits[1], digits[2][:60], digits[3]


def build(name, digits, info):
    torch.manual_seed(0)
    return METHODS[name](digits, build_network(BackboneSettings(name="tiny_resnet"), info))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_the_same_with_and_without_watching(name, few, info, tmp_path, at_once):
    settings, method = build(name, few, info)
    history = train(name, few, settings, method, batch=20, epochs=2)
    state = torch.random.get_rng_state()
    settings, watched = build(name, few, info)
    assert (watched.watched() is not None) == (name in WATCHED)
    logs = []
    live = Live(
        tmp_path,
        logs={"kept": lambda folder: logs.append(Kept(folder)) or logs[0]},
        measure=KnnAccuracy(watched, Store(few), CPU) if name in WATCHED else lambda seconds, rate: {},
        sheets=FirstViews(watched, 20).take,
    )
    assert train(name, few, settings, watched, batch=20, epochs=2, live=live) == history
    assert torch.equal(torch.random.get_rng_state(), state)
    expected = method.state_dict()
    for key, value in watched.state_dict().items():
        assert torch.equal(value, expected[key]), key
    (log,) = logs
    assert [row["step"] for row in log.rows] == [row["step"] for row in history]
    assert all(("knn_acc" in row) == (name in WATCHED) for row in log.rows)
    assert log.sheets
    assert {step for _, _, step in log.sheets} == {0}
    assert not method.network.backbone._forward_pre_hooks
    assert not watched.network.backbone._forward_pre_hooks


@pytest.mark.parametrize("name", [
    *("pretrain/simclr", "pretrain/rotnet", "pretrain/swav", "cluster/scan", "self_label/confident"),
    *("semisup/fixmatch", "semisup/alternation"),
])  # fmt: skip
def test_the_sheets_show_what_the_backbone_received(name, few, info, tmp_path, monkeypatch):
    seen, forward = [], Network.features

    def recorded(network, images):
        if network is method.network and network.training and method.progress.step == 0:
            seen.append(images.detach().clone())
        return forward(network, images)

    settings, method = build(name, few, info)
    monkeypatch.setattr(Network, "features", recorded)
    views = FirstViews(method, 20)
    train(name, few, settings, method, batch=20, steps=2)
    sheets = views.take()
    assert views.take() == []
    assert [name for name, _, _ in sheets] == [f"views/{number + 1}" for number in range(len(seen))]
    for (_, images, _), given in zip(sheets, seen, strict=True):
        assert len(images) <= min(64, len(given))
        difference = (images[:, None] - given.clamp(0, 1)[None]).flatten(2).abs().amax(dim=2)
        assert (difference.amin(dim=1) < 1e-5).all()
        assert len(difference.argmin(dim=1).unique()) > len(images) / 2


def test_the_views_of_an_image_are_side_by_side():
    images = torch.arange(60)[:, None, None, None] * torch.ones(1, 1, 2, 2)
    assert side_by_side(images, 20)[:7, 0, 0, 0].tolist() == [0, 20, 40, 1, 21, 41, 2]
    assert len(side_by_side(images, 20)) == 60
    many = torch.arange(400)[:, None, None, None]
    assert side_by_side(many, 200).flatten().tolist() == [i // 2 + 200 * (i % 2) for i in range(64)]
    spread = side_by_side(many, 150).flatten().tolist()
    assert (spread[0], spread[-1], len(spread)) == (0, 399, 64)


def test_the_accuracy_is_that_of_a_vote_in_plain_loops(few, info, at_once):
    _, method = build("pretrain/simclr", few, info)
    unknown = np.array(few[2])
    unknown[::4] = -1
    store = Store(few, train=unknown)
    found = KnnAccuracy(method, store, CPU)(1.0, 1.0)["knn_acc"]
    assert sorted(store.opened) == ["held_out", "train"]
    network = method.network.eval()
    with torch.no_grad():
        train_features, held_out = (
            F.normalize(network.features(torch.from_numpy(images.array).float() / 255), dim=1).double().numpy()
            for images in few[:2]
        )
    known = [i for i in range(60) if unknown[i] >= 0]
    votes = len(known) // (2 * len({unknown[i] for i in known}))
    right = 0
    for query, label in zip(held_out, few[3], strict=True):
        nearest = sorted(known, key=lambda i: -query @ train_features[i])[:votes]
        weight = np.zeros(10)
        for i in nearest:
            weight[unknown[i]] += np.exp(query @ train_features[i] / 0.07)
        right += weight.argmax() == label
    assert found == pytest.approx(right / len(held_out))
    assert 0.1 < found < 1


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_without_known_labels_there_is_no_column(few, info, at_once, split):
    _, method = build("pretrain/simclr", few, info)
    store = Store(few, **{split: np.full(60, -1)})
    measure = KnnAccuracy(method, store, CPU)
    assert measure(1.0, 1.0) == {}
    opened = len(store.opened)
    assert measure(2.0, 1.0) == {}
    assert len(store.opened) == opened


def test_labels_that_cannot_be_read_are_one_line(few, info, at_once, capsys):
    class WithoutLabels(Store):
        def labels(self, split):
            raise UserError(f"runs/prepare/{split}/labels.npy: no such file")

    _, method = build("pretrain/simclr", few, info)
    measure = KnnAccuracy(method, WithoutLabels(few), CPU)
    assert (measure(1.0, 1.0), measure(2.0, 1.0)) == ({}, {})
    assert capsys.readouterr().out == (
        "live: no kNN accuracy is measured: runs/prepare/train/labels.npy: no such file\n"
    )


def test_it_takes_no_more_than_its_share_of_the_time(few, info, monkeypatch):
    _, method = build("pretrain/simclr", few, info)
    now = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])

    def measured(self):
        now[0] += 2.0
        return {"knn_acc": 0.5}

    monkeypatch.setattr(KnnAccuracy, "_measured", measured)
    measure = KnnAccuracy(method, Store(few), CPU)
    rate = 100.0  # 120 images take 0.4 s of these, without a backward pass
    assert measure(4.9, 1e9) == {}, "not in the first seconds"
    assert measure(5.0, rate) == {}
    assert measure(19.9, rate) == {}
    assert measure(20.0, rate) != {}
    times, spent = [], 2.0
    for seconds in range(21, 1000):
        if measure(float(seconds), rate):
            times.append(seconds)
            spent += 2.0
            assert spent <= 0.021 * seconds
    assert len(times) >= 8


def test_a_network_has_its_modes_back(few, info):
    _, method = build("pretrain/simclr", few, info)
    network = method.network.train()
    network.backbone.eval()
    network.head.train()
    modes = [module.training for module in network.modules()]
    state = torch.random.get_rng_state()
    with suppress(ValueError), undisturbed(network):
        assert not any(module.training for module in network.modules())
        torch.rand(3)
        raise ValueError
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_samples_are_of_known_labels_and_always_the_same(digits):
    label = np.array(digits[2])
    label[:100] = -1
    store = Store(digits, train=label)
    index, found = known_sample(store, "train", 50)
    assert len(index) == len(set(index)) == 50
    assert index.min() >= 100
    np.testing.assert_array_equal(found, digits[2][index])
    np.testing.assert_array_equal(known_sample(store, "train", 50)[0], index)
    assert len(known_sample(store, "train", 1000)[0]) == 200


@pytest.mark.parametrize(("stage", "out", "expected"), [
    ("pretrain", "runs/pretrain", "runs/live/pretrain"),
    ("self-label", "/data/runs/self-label", "/data/runs/live/self-label"),
    ("semisup", "runs/semisup/fixmatch", "runs/live/semisup/fixmatch"),
    ("finetune", "runs/finetune/linear", "runs/live/finetune/linear"),
    ("cluster", "runs/cluster-kmeans", "runs/live/cluster-kmeans"),
    ("semisup", "elsewhere", "live/elsewhere"),
])  # fmt: skip
def test_a_live_folder_is_beside_the_outputs(stage, out, expected):
    assert live_folder(Path(out), stage) == Path(expected)
