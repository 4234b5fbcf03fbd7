"""Balanced assignments of embeddings to prototypes, with a queue of earlier embeddings (SwAV, arXiv:2006.09882)."""

import torch
from torch import Tensor, nn

from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.queue import EmbeddingQueue
from sslpipe.objectives.swav import sinkhorn
from sslpipe.views.multi_crop import GLOBAL_VIEWS


class SinkhornAssignment(nn.Module):
    """Sinkhorn-Knopp over a batch's embeddings and those of earlier batches, for each global view by itself."""

    def __init__(self, *, queue: int, outputs: int, epsilon: float, iterations: int) -> None:
        """queue: embeddings of earlier batches to keep for each view. outputs: D, an embedding's length."""
        super().__init__()
        self.queue = EmbeddingQueue(queue, GLOBAL_VIEWS, outputs)
        self.epsilon, self.iterations = epsilon, iterations

    @torch.no_grad()
    def forward(self, head: PrototypeHead, embeddings: Tensor, *, step: int, use_queue: bool = True) -> Tensor:
        """Assignments [G, B, K] of unit embeddings [G, B, D] (SwAV, eq. 3 to 5), and put these into the queue.

        head: has the K prototypes. use_queue: assign the queue's embeddings along with the batch's, once it is full.
        """
        rows = embeddings.transpose(0, 1)
        use_queue = use_queue and self.queue.is_full(step, len(rows))
        context = torch.cat([self.queue.rows, rows]) if use_queue else rows
        self.queue.push(rows, step)
        scores = head.scores(context.transpose(0, 1))
        assignment = sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations)
        return assignment[:, -len(rows) :]
