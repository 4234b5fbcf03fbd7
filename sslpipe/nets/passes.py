"""Which groups of images share a forward pass, and with it the batch statistics of batch norms."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

BatchStatistics = Literal["joint", "separate"]
"""How batch norms normalise the groups of a step: views, anchors and neighbours, labelled and unlabelled images.

joint: groups of one size share a forward pass and its statistics (SimCLR, arXiv:2002.05709; SwAV, arXiv:2006.09882;
DINO, arXiv:2104.14294: public code). separate: each group has a pass and statistics of its own, and running statistics
move once a group (BYOL, arXiv:2006.07733; SCAN, arXiv:2005.12320: public code). Without batch norms both are the same.
"""


def forward_groups(
    forward: Callable[[Tensor], Tensor], groups: Sequence[Tensor], statistics: BatchStatistics, *, dim: int = 0
) -> list[Tensor]:
    """Return the output of each group, in the order of the groups.

    forward: a function of a batch, such as a network. groups: tensors [B, …]; with joint statistics, those of one shape
    […] share a call. dim: dimension of the images in the output.
    """
    if statistics == "separate":
        return [forward(group) for group in groups]
    outputs: dict[int, Tensor] = {}
    for shape in dict.fromkeys(group.shape[1:] for group in groups):
        places = [place for place, group in enumerate(groups) if group.shape[1:] == shape]
        sizes = [len(groups[place]) for place in places]
        output = forward(torch.cat([groups[place] for place in places]))
        processes = output.shape[dim] // sum(sizes)  # a network returns the rows of all processes
        outputs |= dict(zip(places, torch.split(output, [size * processes for size in sizes], dim), strict=True))
    return [outputs[place] for place in range(len(groups))]
