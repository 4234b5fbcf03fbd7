"""A memory of the latest embeddings (MoCo's keys; SwAV's and Suave's earlier batches)."""

import torch
from torch import Tensor, nn


class EmbeddingQueue(nn.Module):
    """The latest `length` embeddings, in no order, on all processes the same; places are a function of the step."""

    rows: Tensor

    def __init__(self, length: int, *shape: int) -> None:
        """length: 0 keeps nothing. shape: of one row, such as [D], or [G, D] for those of G crops of an image."""
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, *shape))

    def is_full(self, step: int, batch: int) -> bool:
        """Whether all rows were written, after `step` steps of `batch` embeddings each."""
        return step * batch >= len(self.rows) > 0

    @torch.no_grad()
    def push(self, embeddings: Tensor, step: int) -> None:
        """Write the embeddings [B, …] of a step (0-based) over the oldest ones; B is the same at every step."""
        length = len(self.rows)
        if not length:
            return
        first = step * len(embeddings)
        places = torch.arange(first, first + len(embeddings), device=embeddings.device) % length
        self.rows[places[-length:]] = embeddings[-length:].to(self.rows.dtype)
