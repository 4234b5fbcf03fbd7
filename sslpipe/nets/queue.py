"""A queue of embeddings: MoCo v2 (arXiv:2003.04297), SwAV (arXiv:2006.09882), Suave (arXiv:2306.07483)."""

import torch
from torch import Tensor, nn


class EmbeddingQueue(nn.Module):
    """The latest `length` embeddings, identical on all processes; the rows of a step depend only on its number."""

    rows: Tensor
    """float32 [length, *shape], in no particular order."""

    def __init__(self, length: int, *shape: int) -> None:
        """Fill the queue with zeros.

        length: number of rows; 0 stores nothing. shape: shape of a row, such as [D], or [G, D] for G views of an image.
        """
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, *shape))

    def is_full(self, step: int, batch: int) -> bool:
        """Return whether all rows have been written after `step` steps of `batch` embeddings each."""
        return step * batch >= len(self.rows) > 0

    @torch.no_grad()
    def push(self, embeddings: Tensor, step: int) -> None:
        """Replace the oldest rows by the embeddings [B, …] of a step (0-based); B is the same in every step."""
        length = len(self.rows)
        if not length:
            return
        first = step * len(embeddings)
        places = torch.arange(first, first + len(embeddings), device=embeddings.device) % length
        self.rows[places[-length:]] = embeddings[-length:].to(self.rows.dtype)
