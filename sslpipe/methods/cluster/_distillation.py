"""Self-distillation of several heads on pairs of neighbours (TEMI, arXiv:2303.17896), all heads in one step."""

import torch
from torch import Tensor

from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.cosine_heads import CosineHeads
from sslpipe.objectives.temi import moved_marginal, temi


class Distillation:
    """Student heads, their teacher, which has averaged weights, and the teacher's mean probabilities."""

    def __init__(
        self,
        heads: CosineHeads,
        *,
        beta: float,
        lr: float,
        weight_decay: float,
        ema_decay: float,
        marginal_momentum: float,
    ) -> None:
        """heads: become the student. The other parameters are those of cluster.temi."""
        self.student = heads
        self.teacher = AveragedWeights(heads)
        count, clusters = heads.prototypes.shape[:2]
        self.marginal = heads.prototypes.new_full((count, clusters), 1 / clusters, requires_grad=False)
        self.beta, self.lr, self.ema_decay, self.marginal_momentum = beta, lr, ema_decay, marginal_momentum
        self.optimizer = torch.optim.AdamW(heads.parameters(), lr=lr, weight_decay=weight_decay)

    def step(self, features: Tensor, *, factor: float) -> Tensor:
        """Take a step; return the loss of each head before it, [H].

        features: [2B, D], standardised, of B images and then of a neighbour of each. factor: on the learning rate.
        """
        student, teacher = (_pairs(heads(features)) for heads in (self.student, self.teacher))
        self.marginal = moved_marginal(self.marginal, teacher, momentum=self.marginal_momentum)
        loss = temi(student, teacher, self.marginal, beta=self.beta)["loss"]
        self.optimizer.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.lr
        self.optimizer.step()
        self.teacher.update(self.student, decay=self.ema_decay)
        return loss.detach()


def _pairs(logits: Tensor) -> Tensor:
    """Return a view [2, H, B, K] of the logits [H, 2B, K] of images and then of their neighbours."""
    heads, images, clusters = logits.shape
    return logits.view(heads, 2, images // 2, clusters).transpose(0, 1)
