"""Exported files against the models they come from, run by onnxruntime and read back by torch; nothing wrong passes."""

import json
import math
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sslpipe.decoding.decode import decode
from sslpipe.io.errors import UserError
from sslpipe.io.files import sha256
from sslpipe.nets.cosine_heads import CosineSettings
from sslpipe.nets.heads import (
    ClusterSettings,
    InstanceSettings,
    LinearSettings,
    ProjectionSettings,
    PrototypeSettings,
)
from sslpipe.nets.model_file import load_model
from sslpipe.nets.network import BACKBONES
from sslpipe.nets.pixels_module import out_of_place, resize_matrix
from sslpipe.nets.preprocessing import InputSettings, resize_and_crop
from sslpipe.nets.resnet import BasicBlock, Bottleneck, ResNet
from sslpipe.nets.unit_heads import CentroidSettings, ConsensusSettings
from sslpipe.nets.vit import VisionTransformer
from sslpipe.nets.wide_resnet import WideResNet
from sslpipe.tools import export as tool
from sslpipe.tools.export import check_images, export_model
from sslpipe.tools.export_formats import FORMATS
from sslpipe.tools.export_module import trace
from stages.tools.export import export

sys.path.insert(0, str(Path(__file__).parent))
from exported_models import CLASSES, LINEAR, make

PROTOTYPES = PrototypeSettings(prototypes=3, hidden=16, outputs=8)
INSTANCES = InstanceSettings(classes=3, hidden=8, outputs=8)
CLUSTERS = ClusterSettings(clusters=3)
CONSENSUS = ConsensusSettings(outputs=3, heads=4, unit_features=True)
CENTROIDS = CentroidSettings(outputs=3, components=5)
COSINES = CosineSettings(outputs=3, hidden=8, embedding=5)
TRACED = {name: kind for name, kind in FORMATS.items() if kind.is_traced}
ENLARGED = InputSettings(resize=36, crop=32, interpolation="bicubic")
SHRUNK = InputSettings(resize=12, crop=12, interpolation="bilinear")

# A block or two of each kind: the operations are those of the whole, which takes up to 20 s to trace.
SHALLOW = {
    "resnet18": partial(ResNet, BasicBlock, blocks=(1, 1), widths=(8, 16)),
    "resnet34": partial(ResNet, BasicBlock, blocks=(2, 1), widths=(8, 16)),
    "resnet50": partial(ResNet, Bottleneck, blocks=(1, 1), widths=(8, 16)),
    "wrn_28_2": partial(WideResNet, groups=2, widen=1),
    "wrn_28_8": partial(WideResNet, groups=1, widen=2),
    "wrn_37_2": partial(WideResNet, groups=2, widen=1),
    "vit_small_16": partial(VisionTransformer, patch=16, width=24, depth=1, heads=3),
    "vit_tiny_4": partial(VisionTransformer, patch=4, width=24, depth=1, heads=3),
    "vit_mini_4": partial(VisionTransformer, patch=4, width=24, depth=2, heads=3),
}


@pytest.fixture
def shallow(monkeypatch):
    for name, build in SHALLOW.items():
        monkeypatch.setitem(BACKBONES, name, build)
    monkeypatch.setattr("sslpipe.nets.wide_resnet.BLOCKS_PER_GROUP", 1)


@torch.no_grad()
def answers(folder, images):
    """What the model of a folder says to uint8 images."""
    network, card = load_model(folder)
    pixels = images.float() / 255
    if card.stage == "pretrain":
        return F.normalize(network.eval().features(pixels), dim=1)
    logits = network.eval()(pixels)
    return (logits[0] if logits.ndim == 3 else logits).softmax(dim=1)


def run_onnx(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.get_inputs()
    assert (found.name, found.type, found.shape[0]) == ("images", "tensor(uint8)", "batch")
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A model, and its graph, which is traced once."""
    model = make(tmp_path_factory.mktemp("tiny") / "fixmatch", channels=1)
    network, _ = load_model(model)
    return model, trace(network.eval(), channels=1, size=16, features=False)


@pytest.fixture(scope="module")
def tiny(program):
    """A model, and the folder with its export in both traced formats."""
    model, graph = program
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "trace", lambda *_, **__: graph)
        for form in TRACED:
            export_model(model, form, model.parent / "out")
    return model, model.parent / "out"


CASES = {
    "resnet18, cifar": ("resnet18", PROTOTYPES, {"size": 32}),
    "resnet34, stl": ("resnet34", INSTANCES, {"size": 32, "stem": "stl"}),
    "resnet50, imagenet": ("resnet50", CLUSTERS, {"size": 32, "stem": "imagenet", "stage": "cluster"}),
    "wrn_28_2": ("wrn_28_2", LINEAR, {}),
    "wrn_28_8": ("wrn_28_8", INSTANCES, {"channels": 1}),
    "wrn_37_2": ("wrn_37_2", LINEAR, {"stage": "self-label"}),
    "vit_small_16": ("vit_small_16", PROTOTYPES, {"size": 32}),
    "vit_tiny_4": ("vit_tiny_4", LINEAR, {}),
    "vit_mini_4, features": ("vit_mini_4", ProjectionSettings(hidden=8, outputs=8), {"stage": "pretrain"}),
    "timm, resized": ("timm", LINEAR, {"architecture": "resnet10t", "input": ENLARGED}),
    "small_resnet": ("small_resnet", CLUSTERS, {"size": 32, "stage": "cluster"}),
    "consensus": ("tiny_resnet", CONSENSUS, {"stage": "cluster"}),
    "centroids": ("tiny_resnet", CENTROIDS, {"stage": "cluster"}),
    "cosines": ("tiny_resnet", COSINES, {"stage": "cluster"}),
    "pixels": ("pixels", CONSENSUS, {"stage": "cluster", "size": 20, "input": SHRUNK}),
    "tiny_resnet, centre": ("tiny_resnet", LINEAR, {"side": 11}),
    "tiny_resnet, resized with a side": ("tiny_resnet", LINEAR, {"size": 40, "side": 32, "input": ENLARGED}),
    "tiny_resnet, as large as the side": ("tiny_resnet", LINEAR, {"size": 32, "side": 32, "input": ENLARGED}),
}


def test_every_backbone_is_exported_somewhere():
    assert {name for name, *_ in CASES.values()} | {"tiny_resnet"} == set(BACKBONES)


@pytest.mark.parametrize("case", CASES)
def test_onnx_gives_the_models_answers(tmp_path, shallow, capfd, case):
    backbone, head, options = CASES[case]
    model = make(tmp_path / "model", backbone, head, **options)
    written = export_model(model, "onnx", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert written.difference <= 1e-5  # that is tighter than the tool itself
    assert written.size == written.path.stat().st_size
    _, card = load_model(model)
    for count in (1, 3):
        images = check_images(count, card.channels, card.size)
        torch.testing.assert_close(run_onnx(written.path, images), answers(model, images), rtol=0, atol=1e-4)


def test_both_formats_give_the_models_answers(tiny):
    model, out = tiny
    for count in (1, 3, 70):
        images = check_images(count, 1, 16)
        expected = answers(model, images)
        torch.testing.assert_close(run_onnx(out / "model.onnx", images), expected, rtol=0, atol=1e-5)
        program = torch.export.load(out / "model.pt2")
        torch.testing.assert_close(program.module()(images), expected, rtol=0, atol=1e-6)
    expected_files = ["README.md", "model.onnx", "model.onnx.json", "model.pt2", "model.pt2.json"]
    assert sorted(path.name for path in out.iterdir()) == expected_files


def test_torchs_archive_of_a_vit_takes_any_number_of_images(tmp_path, shallow):
    """Grey images before three means, enlarged; their number is no constant, though the forward calls len()."""
    options = {"size": 16, "channels": 1, "colours": 3, "input": replace(ENLARGED, interpolation="bilinear")}
    model = make(tmp_path / "model", "vit_tiny_4", PROTOTYPES, **options)
    (tmp_path / "out").mkdir()
    for earlier in ("model.pt2.json", "model.pt2.data", "model.onnx"):
        (tmp_path / "out" / earlier).write_text("earlier")
    path = export_model(model, "torch", tmp_path / "out").path
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "README.md", "model.onnx", "model.pt2", "model.pt2.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "out/model.pt2.json").read_text())["file"] == "model.pt2"
    images = check_images(70, 1, 16)  # the network itself enlarges 64 at once
    found = torch.export.load(path).module()(images)
    torch.testing.assert_close(found, answers(model, images), rtol=0, atol=1e-5)


def test_torchs_archive_holds_no_pickle_and_no_paths(tiny):
    with zipfile.ZipFile(tiny[1] / "model.pt2") as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    configs = [json.loads(records[name])["config"] for name in records if name.endswith("_config.json")]
    assert len(configs) == 2  # weights, constants
    assert not any(entry["use_pickle"] for config in configs for entry in config.values())
    assert records["data/sample_inputs/model.pt"] == b""
    for name, content in records.items():
        assert b".py" not in content, name
        assert not content.startswith((b"\x80", b"PK")), name  # how pickles and torch.save's files begin
    assert json.loads(records["extra/card.json"])["names"] == list(CLASSES)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize", "crop"), [(16, 37, 32), (33, 20, 15), (32, 32, 28), (16, 48, 48)])
def test_two_matrix_products_are_the_networks_resizing(interpolation, size, resize, crop):
    settings = InputSettings(resize=resize, crop=crop, interpolation=interpolation)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25  # none is clamped
    matrix = resize_matrix(settings, size)
    assert matrix.shape == (crop, size)
    found = matrix @ images @ matrix.T
    torch.testing.assert_close(found, resize_and_crop(images, settings), rtol=0, atol=1e-6)


def test_out_of_place_activations_have_the_same_values_and_leave_their_input():
    module = torch.nn.Sequential(torch.nn.ReLU6(inplace=True), torch.nn.Sequential(torch.nn.SiLU(inplace=True)))
    images = torch.linspace(-9, 9, 50)
    expected = module(images.clone())
    out_of_place(module)
    given = images.clone()
    assert torch.equal(module(given), expected)
    assert torch.equal(given, images)


def test_the_card_says_how_to_use_the_file_and_where_it_is_from(tiny):
    model, out = tiny
    for form, kind in TRACED.items():
        card = json.loads((out / f"{kind.file}.json").read_text())
        assert card["input"]["shape"] == ["batch", 1, 16, 16]
        assert (card["input"]["name"], card["input"]["dtype"]) == ("images", "uint8")
        for part in ("EXIF", "shorter side to 16 px (bicubic, antialiased)", "central", "with white"):
            assert part in card["input"]["prepare"]
        assert (card["output"]["name"], card["output"]["shape"]) == ("probabilities", ["batch", 3])
        assert card["names"] == list(CLASSES)
        assert (card["stage"], card["settings"]) == ("semisup", {"fit": {"epochs": 3}})
        readme = card["fingerprints"].pop("README.md")
        assert (readme == sha256(out / "README.md")) == (form == "torch")  # which was written last
        assert card["fingerprints"] == {
            "data": "d" * 64,
            "weights": sha256(model / "model.safetensors"),
            kind.file: sha256(out / kind.file),
        }
        assert 0 <= card["compared"]["max_difference"] <= card["compared"]["tolerance"] == 1e-4, form
        assert len(card["example"]) == 4
        assert card["sslpipe"]


@pytest.mark.parametrize(
    ("options", "inside"),
    [
        ({}, "divided by 255, normalised"),
        ({"side": 16}, "divided by 255, normalised"),
        ({"side": 11}, "divided by 255, cropped to the central 11 × 11 px, normalised"),
        (
            {"size": 40, "side": 32, "input": ENLARGED},
            "divided by 255, resized to 36 × 36 px (bicubic), cropped to the central 32 × 32 px, normalised",
        ),
        ({"size": 32, "side": 32, "input": ENLARGED}, "divided by 255, normalised"),
    ],
)
def test_the_card_says_what_happens_inside(tmp_path, options, inside):
    size = options.get("size", 16)
    written = export_model(make(tmp_path / "a", **options), "torch", tmp_path / "out")
    card = json.loads(written.path.with_name("model.pt2.json").read_text())
    assert card["input"]["inside"] == inside
    assert card["input"]["shape"] == ["batch", 3, size, size]
    assert f"crop the central {size} × {size} px" in card["input"]["prepare"]


def test_the_onnx_file_knows_its_classes(tiny):
    found = onnx.load(tiny[1] / "model.onnx")
    onnx.checker.check_model(found, full_check=True)
    about = {entry.key: json.loads(entry.value) for entry in found.metadata_props}
    assert about["names"] == list(CLASSES)
    assert about["stage"] == "semisup"
    assert b".py" not in found.SerializeToString()  # where the exporter's source lies


@pytest.mark.parametrize("form", TRACED)
def test_the_cards_example_runs(tiny, tmp_path, monkeypatch, form):
    model, out = tiny
    monkeypatch.chdir(out)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31), np.uint8)
    monkeypatch.setattr("PIL.Image.open", lambda _: Image.fromarray(pixels))
    scope = {}
    exec("\n".join(json.loads((out / f"{FORMATS[form].file}.json").read_text())["example"]), scope)
    expected = answers(model, torch.tensor(decode(pixels, size=16, channels=1))[None])
    torch.testing.assert_close(torch.as_tensor(scope["probabilities"]), expected, rtol=0, atol=1e-5)


def test_the_command_says_one_line_and_chooses_a_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "pretrain", head=None, stage="pretrain", channels=1, colours=3)
    export(tmp_path / "pretrain", "torch")
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert out.startswith("exported/pretrain/model.pt2: 0.4 MB, at most ")
    card = json.loads((tmp_path / "exported/pretrain/model.pt2.json").read_text())
    assert (card["output"]["name"], card["output"]["shape"], card["names"]) == ("features", ["batch", 64], [])
    features = torch.export.load("exported/pretrain/model.pt2").module()(check_images(3, 1, 16))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_a_methods_export_lies_under_its_own_name(tiny):
    _, card = load_model(tiny[0])
    assert tool.default_folder(tiny[0], card).as_posix() == "exported/semisup-fixmatch"


def test_weights_too_large_for_the_file_lie_beside_it(program, tmp_path, monkeypatch):
    model, graph = program
    monkeypatch.setattr(tool, "trace", lambda *_, **__: graph)
    monkeypatch.setattr("sslpipe.tools.export_module.LIMIT", 0)
    written = export_model(model, "onnx", tmp_path / "out")
    data = tmp_path / "out/model.onnx.data"
    assert written.size == data.stat().st_size + written.path.stat().st_size
    assert json.loads((tmp_path / "out/model.onnx.json").read_text())["fingerprints"][data.name] == sha256(data)
    images = check_images(2, 1, 16)
    torch.testing.assert_close(run_onnx(written.path, images), answers(model, images), rtol=0, atol=1e-5)


def refused(model, form, out, *parts):
    with pytest.raises(UserError) as caught:
        export_model(model, form, out)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_a_wrong_graph_is_caught_and_nothing_stays(tmp_path, monkeypatch):
    """The crop's place is one pixel off."""
    monkeypatch.setattr("sslpipe.nets.pixels_module.resize_matrix", lambda *given: resize_matrix(*given).roll(1, 0))
    model = make(tmp_path / "model", input=ENLARGED)
    refused(model, "torch", tmp_path / "out", "out/model.pt2: outputs that differ by ", "expected at most 1.0e-04")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def pretended(tiny, tmp_path, monkeypatch):
    """A function that exports to tmp_path/out, which has an earlier export; `answer` runs the file."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.pt2").write_text("earlier")
    monkeypatch.setattr(tool, "trace", lambda *_, **__: None)

    def export_so(answer, *parts):
        kind = replace(FORMATS["torch"], write=lambda _, path, __: path.write_text("wrong"), run=lambda _: answer)
        monkeypatch.setitem(FORMATS, "torch", kind)
        refused(tiny[0], "torch", tmp_path / "out", *parts)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("model.pt2", "earlier")]

    return export_so


def test_wrong_answers_are_refused_and_the_earlier_export_stays(tiny, pretended):
    def right(images):
        return answers(tiny[0], images)

    pretended(lambda images: right(images) + 2e-4, "differ by 2.0e-04", "at most 1.0e-04; nothing is written")
    pretended(lambda images: right(images) * math.nan, "differ by nan")
    pretended(lambda images: right(images)[:1], "differ by inf")
    pretended(lambda images: right(images).double(), "differ by inf")
    # Wrong for one image at a time alone, and right for the first batch.
    pretended(lambda images: right(images) + (len(images) == 1), "differ by 1.0e+00")


def test_what_a_library_cannot_translate_is_one_line(tiny, pretended):
    def fail(_):
        raise RuntimeError("no translation\n\tof aten::x") from ValueError("of\nx")

    pretended(fail, f"{tiny[0]}: cannot be exported as torch (of x)")


def test_a_folder_with_other_files_is_not_replaced(tiny, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").touch()
    refused(tiny[0], "torch", out, f"--out: {out} contains notes.txt")
    refused(tiny[0], "torch", tiny[0], "contains model.json")
    refused(tiny[0], "torch", out / "notes.txt", "is a file, expected a folder")
    refused(tiny[0], "torch", out / "..", "expected the name of a folder")


def test_a_users_mistake_is_one_line(tiny, tmp_path, monkeypatch):
    refused(tmp_path / "none", "onnx", None, "none/model.json: no such file")
    refused(tiny[0], "onx", None, "--format: 'onx' found", "did you mean 'onnx'?")
    several = make(tmp_path / "several", head=ClusterSettings(clusters=3, heads=2), stage="cluster")
    refused(several, "torch", tmp_path / "out", "network.head.heads: 2 found, expected 1")
    more = make(tmp_path / "more", head=LinearSettings(outputs=4))
    refused(more, "torch", tmp_path / "out", "classes: 3 found, expected 4")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(tiny[0], "onnx", tmp_path / "out", "onnxscript is not installed; pip install 'sslpipe[export]'")
    assert not (tmp_path / "out").exists()
