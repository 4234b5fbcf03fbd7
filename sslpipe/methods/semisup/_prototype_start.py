"""Start values of the head of Suave and Daino (Fini et al. 2023, arXiv:2306.07483), taken from the start's model."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import one_hot

from sslpipe.io.errors import UserError
from sslpipe.nets.heads import PrototypeHead

ROWS = 4096
"""Images whose classes are counted at a time (own choice)."""


def keep_projection(head: PrototypeHead, start: nn.Module) -> None:
    """Copy the projection of a start's head; raises UserError if its layers have other shapes."""
    projection = start.projection if isinstance(start, PrototypeHead) else start
    found = {name: value.shape for name, value in projection.state_dict().items()}
    wanted = {name: value.shape for name, value in head.projection.state_dict().items()}
    if found != wanted:
        form = f"hidden {head.settings.hidden}, outputs {head.settings.outputs}, batch_norm, depth 2"
        raise UserError(f"projection_init: pretrained is set, but the start's head is no projection of {form}")
    head.projection.load_state_dict(projection.state_dict())


@torch.no_grad()
def place_prototypes(head: PrototypeHead, features: Tensor, prediction: Tensor) -> None:
    """Set each prototype to the direction from the mean embedding to the mean embedding of its class's images.

    A prototype without images stays as it is. head: its batch norms take their running statistics from these images,
    because a momentum encoder normalises with them from the first step on. features: [N, D]. prediction: int64 [N].
    """
    norms = [layer for layer in head.modules() if isinstance(layer, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    embedding = head.train().embed(features)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    count, total = prediction.bincount(minlength=head.settings.prototypes), torch.zeros_like(head.prototypes.weight)
    for rows, classes in zip(torch.split(embedding, ROWS), torch.split(prediction, ROWS), strict=True):
        # Products instead of a scatter, whose order of additions is not deterministic on CUDA.
        total += one_hot(classes, head.settings.prototypes).float().T @ rows
    means = F.normalize(total / count.clamp(min=1)[:, None] - embedding.mean(dim=0), dim=1)
    head.prototypes.weight.copy_(torch.where(count[:, None] > 0, means, head.prototypes.weight))
