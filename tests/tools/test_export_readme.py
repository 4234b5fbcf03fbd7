"""Model cards of exports, read back by huggingface_hub without a network."""

import html
import json
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sslpipe.io.files import sha256
from sslpipe.nets.heads import ClusterSettings
from sslpipe.tools.export import export_model
from sslpipe.tools.export_licence import HUB, OTHER, UNKNOWN, Licence, licence_of
from sslpipe.tools.export_readme import Export, escaped, readme
from sslpipe.tools.lineage import Artifact

sys.path.insert(0, str(Path(__file__).parent))
from exported_models import CLASSES, LINEAR, make

ROW = {
    **{"acc": 0.91239, "cluster_acc": 0.9, "ece": 0.0412, "clusters_used": 3},
    **{"protocol": "split", "seed": 4, "images": 57, "labels": 12, "outputs": 3},
}
SOURCE = {"name": "folder", "path": "/home/me/beetles/photos"}
STORE = {
    "fingerprint": "d" * 64,
    "size": 16,
    "channels": 3,
    "train": 230,
    "held_out": 20,
    "test": 57,
    "protocol": "split",
}


def parsed(text):
    """The metadata by huggingface_hub, which refuses what has another form, and those that YAML itself reads."""
    card = ModelCard(text)
    block = yaml.safe_load(text.split("---\n")[1])
    assert card.data.to_dict() == block
    assert block["license"] in HUB | {OTHER, UNKNOWN}
    assert (block["license"] == OTHER) == ("license_name" in block)
    assert block["pipeline_tag"] in ("image-classification", "image-feature-extraction")
    return card


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a classifier, its images and its metrics, as the stages write them."""
    monkeypatch.chdir(tmp_path)
    model = make(Path("runs/semisup/fixmatch"), "vit_mini_4", LINEAR)
    card = json.loads((model / "model.json").read_text())
    card["settings"] = {"method": "fixmatch", "labels": 12, "weights": "/home/me/weights/own.pth"}
    (model / "model.json").write_text(json.dumps(card))
    for name, content in {
        "prepare/store.json": STORE,
        "prepare/report.json": {"source": SOURCE, "seed": 4, "labelled": {"images": 12, "classes": {}}},
        "evaluate/metrics.json": {"semisup.fixmatch": ROW},
        "evaluate/card.json": {
            "inputs": {"runs/semisup/fixmatch/model.safetensors": sha256(model / "model.safetensors")}
        },
    }.items():
        path = Path("runs", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return model


def test_the_card_has_the_metrics_with_protocol_and_seed(project, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection is made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    text = export_model(project, "timm").card.read_text(encoding="utf-8")
    card = parsed(text)
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == (UNKNOWN, "timm", "image-classification")
    assert data.tags == ["sslpipe", "timm", "arxiv:2001.07685"]
    assert data.get("classes") == list(CLASSES)
    assert data.model_name == "semisup-fixmatch"
    found = {each.metric_name: each for each in data.eval_results}
    assert {name: each.metric_value for name, each in found.items()} == {
        "acc": 0.9124, "cluster_acc": 0.9, "ece": 0.0412, "clusters_used": 3,
    }  # fmt: skip
    acc = found["acc"]
    assert (acc.task_type, acc.metric_type) == ("image-classification", "accuracy")
    assert (acc.dataset_type, acc.dataset_name, acc.dataset_split) == ("imagefolder", "photos", "test")
    assert acc.dataset_args == {"protocol": "split", "images": 57}
    assert acc.metric_args == {"seed": 4, "labels": 12}
    for part in (
        "| 2 | Käfer |",
        "| `acc` | 0.9124 |",
        "Protocol `split`: 57 images scored (test), seed 4, 12 labels used; one run",
        "230 training images, 20 held out for model selection, 57 test images",
        "The expected calibration error on the scored images is 0.041.",
        "`semisup: fixmatch`: FixMatch (Sohn et al. 2020, arXiv:2001.07685)",
        "runs/prepare: images of prepare",
        'timm.create_model("local-dir:.", pretrained=True)',
    ):
        assert part in text, part


def test_no_path_of_this_machine_is_written(project, tmp_path):
    """Also for a model that is given by an absolute path."""
    written = export_model(tmp_path / project, "timm", tmp_path / "out")
    for path in written.path.parent.iterdir():
        content = path.read_bytes()
        for part in (b"/home/me", b"beetles", str(tmp_path).encode()):
            assert part not in content, path
    text = written.card.read_text()
    assert "…/photos" in text
    assert "…/own.pth" in text


def test_metrics_of_other_weights_are_left_out(project):
    shutil.rmtree(project)
    make(project, "vit_mini_4", LINEAR, channels=1)
    text = export_model(project, "timm").card.read_text()
    data = parsed(text).data
    assert data.eval_results is None
    assert "Not evaluated: no metrics of exactly these weights were found." in text
    assert "0.9124" not in text


def test_provenance_that_cannot_be_read_is_left_out(project, capsys):
    Path("runs/prepare/store.json").write_text("{")
    text = export_model(project, "timm").card.read_text()
    assert parsed(text).data.license == UNKNOWN
    assert (
        "runs/semisup/fixmatch: provenance cannot be read (runs/prepare/store.json: not readable"
        in capsys.readouterr().out
    )
    assert "The images were not found" in text


def test_folders_beside_a_model_outside_of_a_project_are_not_searched(tmp_path):
    make(tmp_path / "a", "vit_mini_4", LINEAR)
    model = make(tmp_path / "b", "vit_mini_4", LINEAR, channels=1)
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "parent": sha256(tmp_path / "a/model.safetensors")}))
    text = export_model(model, "timm", tmp_path / "out").card.read_text()
    assert "A model that this one was made from was not found" in text


def test_the_card_of_clusters_and_of_features(tmp_path):
    groups = make(tmp_path / "cluster", "vit_mini_4", ClusterSettings(clusters=3), stage="cluster")
    text = export_model(groups, "timm", tmp_path / "groups").card.read_text()
    assert parsed(text).data.tags == ["sslpipe", "timm", "clustering"]
    assert "Clusters have no names" in text
    assert "The images were not found when the model was exported." in text
    features = make(tmp_path / "pretrain", "vit_mini_4", None, stage="pretrain")
    text = export_model(features, "timm", tmp_path / "features").card.read_text()
    data = parsed(text).data
    assert (data.pipeline_tag, data.get("classes")) == ("image-feature-extraction", None)
    assert "calibrated" not in text


def exported(names, name="out"):
    about = {"names": names, "stage": "semisup", "sslpipe": "1", "file": "model.onnx", "example": ["import onnx"],
             "settings": {},
             "input": {"name": "images", "dtype": "uint8", "shape": [1], "meaning": "x", "prepare": "y", "inside": "z"},
             "output": {"name": "probabilities", "dtype": "float32", "shape": [1], "meaning": "x"}}  # fmt: skip
    artifact = Artifact("runs/semisup/a", "model", "semisup", metadata={"network": "tiny", "classes": list(names)})
    artifact.metrics = {"test images": ROW}
    return Export(
        name=name, files={"onnx": about}, library="onnx", artifact=artifact, licence=Licence(UNKNOWN, None, ".")
    )


SPECIAL = (
    *("no", "null", "~", "1.0", "2020-01-01", "- a", "a: b", "# c", "'", '"', "{x}", "[y]", "%", "@d", "!e", "---"),
    *("a|b", "|", "\\|", "```", "`a`", "*b*", "_c_", "<br>", "&amp;", "y\u0085z", "日本", " lead", "trail ", ""),
)
NAME = st.one_of(st.sampled_from(SPECIAL), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))


@settings(max_examples=30)
@example(names=list(SPECIAL), folder="no")
@given(names=st.lists(NAME, min_size=1, max_size=6, unique=True), folder=NAME)
def test_any_class_name_survives(names, folder):
    text = readme(exported(names, folder))
    data = parsed(text).data
    assert data.get("classes") == names
    assert data.model_name == folder
    body = ModelCard(text).text
    lines = body[body.index("| output | name |") :].splitlines()[2 : 2 + len(names)]
    for place, (line, name) in enumerate(zip(lines, names, strict=True)):
        assert line.count("|") == 3
        cell = line.removeprefix(f"| {place} | ").removesuffix(" |")
        assert html.unescape(cell) == (name if name.isprintable() else repr(name))
    # The provenance is within its fence.
    fence = re.search(r"^(`{3,})text$", body, re.MULTILINE)[1]
    assert body.rstrip("\n").endswith(f"\n{fence}")
    assert fence not in body[body.rindex(f"{fence}text") + len(fence) : -len(fence) - 1]


def test_markdown_shows_a_name_as_it_is():
    assert escaped("a_b|<c>") == "a&#95;b&#124;&#60;c&#62;"


def frozen(architecture, weights, path="runs/pretrain"):
    settings = {"method": "frozen", "weights": weights}
    return Artifact(path, "model", "pretrain", settings=settings, metadata={"network": architecture})


def of(*parents):
    return Artifact("runs/cluster", "model", "cluster", settings={"method": "scan"}, parents=list(parents))


PACKAGED = "tf_efficientnet_lite0+tf_efficientnet_lite2"
LOST = Artifact(None, "model", "unknown")
SCRATCH = Artifact("runs/pretrain", "model", "pretrain", settings={"method": "simclr"})


@pytest.mark.parametrize(
    ("artifact", "identifier", "name", "part"),
    [
        (of(SCRATCH), UNKNOWN, None, "trained from scratch"),
        (of(LOST), UNKNOWN, None, "was not found, so the licence"),
        (of(frozen("resnet50.tv_in1k", None)), "bsd-3-clause", None, "resnet50.tv_in1k: bsd-3-clause."),
        (of(of(frozen(PACKAGED, ["package", "package"]))), "apache-2.0", None, "tf_efficientnet_lite2: apache-2.0"),
        (of(frozen("resnet50", "/x/own.pth")), UNKNOWN, None, "resnet50: unknown. Not all are known"),
        (of(frozen("vit_small_patch16_dinov3.lvd1689m", None)), OTHER, "dinov3-license", "dinov3-license"),
        (
            of(frozen("tf_efficientnet_lite0+vit_small_patch14_dinov2.lvd142m", ["package", None])),
            "apache-2.0",
            None,
            "dinov2.lvd142m: apache-2.0",
        ),
        (
            of(frozen("tf_efficientnet_lite0+vit_small_patch16_dinov3.lvd1689m", ["package", None])),
            OTHER,
            "apache-2.0-and-dinov3-license",
            "lite0: apache-2.0; vit",
        ),
        (of(frozen("no_such_network", None)), UNKNOWN, None, "no_such_network: unknown"),
        (of(frozen("resnet50.tv_in1k", None), LOST), UNKNOWN, None, "Not all are known"),
    ],
)
def test_the_licence_is_that_of_the_published_weights(artifact, identifier, name, part):
    found = licence_of(artifact)
    assert (found.identifier, found.name) == (identifier, name)
    assert part in found.sentence
