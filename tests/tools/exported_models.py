"""Models to export, with random weights."""

import torch
from torch import nn

from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, Network

CLASSES = ("cat", "dog", "Käfer")
LINEAR = LinearSettings(outputs=3)


def make(folder, backbone="tiny_resnet", head=LINEAR, *, stage="semisup", size=16, channels=3, colours=None, **options):
    """A model's folder with random weights; its batch norms have seen images."""
    torch.manual_seed(0)
    input = options.pop("input", None)
    mean = [0.4, 0.45, 0.5][: colours or channels]
    settings = BackboneSettings(name=backbone, **options)
    network = Network(settings, head, mean=mean, std=[0.25] * len(mean), input=input, channels=channels)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 0.5
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(8, channels, size, size))
        for layer in network.head.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(10)  # answers far from chance, which show a difference
    settings = {"fit": {"epochs": 3}}
    card = ModelCard(
        stage=stage, size=size, channels=channels, classes=CLASSES, data="d" * 64, parent=None, settings=settings
    )
    save_model(folder, network, card)
    return folder
