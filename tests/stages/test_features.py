import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.kills import Forked
from sslpipe.data.images import Images
from sslpipe.data.store import SPLITS, Store
from sslpipe.io.errors import UserError
from sslpipe.nets.inference import infer
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.running import feature_runtime
from sslpipe.running.features import open_features
from stages.features import features

OUT, PREPARED, PRETRAINED = Path("runs/features"), Path("runs/prepare"), Path("runs/pretrain")


def opened():
    return open_features(OUT, Store(PREPARED), PRETRAINED)


def test_every_image_of_every_split_has_the_features_of_the_backbone(finished, monkeypatch):
    monkeypatch.chdir(finished)
    store, stored = Store(PREPARED), opened()
    network, _ = load_model(PRETRAINED)
    assert (stored.dimension, stored.parts) == (64, (64,))
    for split in SPLITS:
        expected = infer(network.eval().features, Images(store.images(split), torch.device("cpu")))
        found = stored.split(split)
        assert found.dtype == np.float16
        assert found.shape == (store.info.count(split), 64)
        assert np.allclose(found, expected, rtol=2e-3, atol=1e-4)
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable


def test_labels_are_not_read(opened):
    assert not [path for path in opened["features"] if path.parts[0] == "runs" and "label" in str(path)]


def test_nothing_of_an_unfinished_run_is_left(project):
    features()
    assert not list(Path(".sslpipe/checkpoints").glob("features-*"))
    assert sorted(path.relative_to(OUT).as_posix() for path in OUT.rglob("*") if path.is_file()) == [
        "card.json",
        *sorted(f"{split}/features.npy" for split in SPLITS),
    ]


def content():
    return {path.relative_to(OUT): path.read_bytes() for path in OUT.rglob("*") if path.is_file()}


def test_a_stopped_run_goes_on_with_the_same_result(project):
    features(batch=4)
    expected = content()
    command, saved = ["features", "--batch", "4", "--checkpoint-seconds", "0"], 0
    for number in (signal.SIGINT, signal.SIGKILL, None):
        process = Forked(command, Path.cwd(), Path("output"))
        deadline = time.monotonic() + 60
        while number and rows_saved() <= saved:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if number:
            os.kill(process.pid, number)
        code, out = process.wait(), Path("output").read_text()
        assert ("features: resumed after" in out) == (saved > 0)
        if number is signal.SIGINT:
            assert code == 130
            assert f"features: stopped after {rows_saved()} of 1797 images; the next run resumes after" in out
        saved = rows_saved()
        assert content() == expected
    assert code == 0
    assert not list(Path("runs").rglob(".*"))


def rows_saved():
    """The number of rows that the checkpoint has."""
    for path in Path(".sslpipe/checkpoints").glob("features-*/done.json"):
        return sum(json.loads(path.read_text()).values())
    return 0


def test_what_a_killed_process_wrote_beyond_its_last_save_is_computed_again(project, monkeypatch):
    """Its last bytes may never have reached the disk."""
    features(batch=100)
    expected = content()
    from sslpipe.running import feature_files

    def killed(self):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(feature_files.FeatureFiles, "finish", killed)
        with pytest.raises(OSError, match="killed"):
            features(batch=100)
    (folder,) = Path(".sslpipe/checkpoints").glob("features-*")
    done = json.loads((folder / "done.json").read_text())
    (folder / "done.json").write_text(json.dumps({**done, "train": 300, "held_out": 0}))
    with (folder / "train.npy").open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\0" * 5000)
    features(batch=100)
    assert content() == expected


def test_other_settings_or_weights_resume_nothing(project, capsys, monkeypatch):
    from sslpipe.running import feature_files

    def killed(self):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(feature_files.FeatureFiles, "finish", killed)
        with pytest.raises(OSError, match="killed"):
            features()
    features(batch=99)
    assert "resumed" not in capsys.readouterr().out
    changed_weights()
    features()
    assert "resumed" not in capsys.readouterr().out


def changed_weights(change=lambda weight: weight + 0.01, folder=PRETRAINED):
    network, card = load_model(folder)
    with torch.no_grad():
        weight = next(network.backbone.parameters())
        weight.copy_(change(weight))
    save_model(folder, network, card)


def test_features_of_another_backbone_or_of_other_images_are_refused(project):
    changed_weights()
    with pytest.raises(
        UserError, match=r"card\.json: backbone: .* found, expected .*, that of runs/pretrain; run the s"
    ):
        opened()
    features()
    opened()
    path = PREPARED / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "another"}))
    with pytest.raises(UserError, match=r"card\.json: data: .* found, expected another, that of runs/prepare"):
        opened()


def test_another_head_on_the_same_backbone_has_the_same_features(project):
    network, card = load_model(PRETRAINED)
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.add_(1)
    save_model(PRETRAINED, network, card)
    opened()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda array: array[:, 1:],
            r"float16 \[135, 63\] found, expected float16 \[135, 64\]; run the stage features",
        ),
        (
            lambda array: array[1:],
            r"float16 \[134, 64\] found, expected float16 \[135, 64\]; run the stage features ag",
        ),
        (lambda array: array.astype(np.float32), r"float32 \[135, 64\] found, expected float16 \[135, 64\]; run the s"),
        (
            lambda array: np.where(np.arange(len(array))[:, None] == 7, np.nan, array),
            "values that are not finite found in 1 of 135 r",
        ),
    ],
)
def test_other_arrays_are_refused(change, message, project):
    path = OUT / "held_out/features.npy"
    array = np.load(path)
    path.unlink()
    np.save(path, change(array))
    with pytest.raises(UserError, match=message):
        opened().split("held_out")
    path.unlink()
    with pytest.raises(UserError, match=r"features\.npy: no such file; run 'sslpipe features' or 'dvc repro' first"):
        opened().split("held_out")


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1e7, "features of 64 of the train images 0 to 63 are out of float16's range, with values up to"),
        (
            float("nan"),
            "features of 64 of the train images 0 to 63 are not finite; train it again, or use other weig",
        ),
        (1e-7, "features of 64 of the train images 0 to 63 are out of float16's range, with values up to"),
    ],
)
def test_features_that_float16_cannot_represent_are_refused(factor, message, project, monkeypatch):
    before = content()
    original = feature_runtime.torch_forward

    def scaled(network, device):
        forward = original(network, device)
        return lambda images: forward(images) * factor

    monkeypatch.setattr(feature_runtime, "torch_forward", scaled)
    with pytest.raises(UserError, match=message):
        features()
    assert content() == before
    assert not list(Path(".sslpipe/checkpoints").glob("features-*"))
