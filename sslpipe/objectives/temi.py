"""TEMI (Adaloglou et al. 2023, arXiv:2303.17896): neighbours share a cluster, by self-distillation of several heads."""

from torch import Tensor


def temi(student: Tensor, teacher: Tensor, marginal: Tensor, *, beta: float) -> dict[str, Tensor]:
    """Return the weighted pointwise mutual information of image and neighbour, negated, for each of H heads.

    student, teacher: [2, H, B, K] logits p and q, divided by their temperature: entry [0, h, i] is of image i, and
    [1, h, i] of a neighbour of it. marginal: [H, K], the teacher's mean probabilities, above 0. Only the student gets
    gradients. A pair x, x' has the weight w = mean over the heads of Σ_k q(k|x) q(k|x'), which all heads share, and

        L(x, x') = -w/2 [log Σ_k (q(k|x) p(k|x'))^β / q(k) + log Σ_k (q(k|x') p(k|x))^β / q(k)].

    Returns loss, [H], the mean over the pairs; weight, the mean w, a scalar in (0, 1]. They are -(2 - 2β) ln K / K and
    1/K for uniform logits and marginal, -ln K and 1 for equal and balanced one-hot predictions, and 0 and 1 if all
    images are in one cluster, also in the marginal.
    """
    log_p = student.log_softmax(dim=-1)
    log_q = teacher.detach().log_softmax(dim=-1)
    weight = log_q.sum(dim=0).exp().sum(dim=-1).mean(dim=0)
    # Image and neighbour are exchanged in the student alone.
    powers = beta * (log_q + log_p.flip(0)) - marginal.log()[:, None]
    loss = -(weight * powers.logsumexp(dim=-1)).mean(dim=(0, 2))
    return {"loss": loss, "weight": weight.mean()}


def moved_marginal(marginal: Tensor, teacher: Tensor, *, momentum: float) -> Tensor:
    """Return the updated marginal, μ marginal + (1 - μ) mean of the teacher's probabilities, [H, K], no gradient.

    marginal: [H, K], sums to 1 for each head; teacher: [2, H, B, K], logits divided by the temperature.
    """
    return momentum * marginal.detach() + (1 - momentum) * teacher.detach().softmax(dim=-1).mean(dim=(0, 2))
