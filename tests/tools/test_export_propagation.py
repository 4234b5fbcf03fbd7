"""A model with propagated labels, exported in both formats, against torch; its bank is searched in several blocks."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from sslpipe.nets import propagation_head
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.propagation_head import PropagationSettings
from sslpipe.tools.export import check_images, export_model


@pytest.fixture
def model(request, tmp_path, monkeypatch):
    """The folder of a model with this answer and a bank of 50 images."""
    monkeypatch.setattr(propagation_head, "BLOCK", 20)
    torch.manual_seed(0)
    images = None if request.param == "probe" else 50
    head = PropagationSettings(answer=request.param, classes=3, images=images, components=16, neighbors=6)
    network = Network(BackboneSettings(name="tiny_resnet"), head, mean=[0.4], std=[0.25]).eval()
    network.head.basis.copy_(torch.linalg.qr(torch.randn(64, 16))[0])
    with torch.no_grad():
        if images:
            unit = network.head.reduce(network.features(torch.rand(50, 1, 16, 16)))
            network.head.bank.copy_(F.normalize(unit + 0.1 * torch.randn(50, 16), dim=1))
            network.head.probability.copy_((3 * torch.randn(50, 3)).softmax(dim=1))
        if network.head.probe is not None:
            network.head.probe.weight.mul_(30)
    card = ModelCard(stage="semisup", size=16, channels=1, classes=("a", "b", "c"), data="d" * 64, parent=None,
                     settings={})  # fmt: skip
    save_model(tmp_path / "model", network, card)
    return tmp_path / "model"


@pytest.mark.parametrize("model", ["propagation", "probe", "product"], indirect=True)
def test_both_formats_give_the_models_answers(model, tmp_path, monkeypatch):
    for form in ("onnx", "torch"):
        assert export_model(model, form, tmp_path / "out").difference <= 1e-5
    network = load_model(model)[0].eval()
    monkeypatch.setattr(propagation_head, "BLOCK", 1000)
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(tmp_path / "out/model.pt2").module()
    for count in (1, 3, 40):
        images = check_images(count, 1, 16)
        with torch.no_grad():
            expected = network(images.float() / 255).softmax(dim=1)
        assert expected.std(dim=1).min() > 0.01  # not the same for all classes
        np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, atol=1e-5)
        torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-5)
