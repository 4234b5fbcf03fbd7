"""DINO (arXiv:2104.14294) and Daino (arXiv:2306.07483): the student predicts the centred and sharpened teacher."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def assign(teacher: Tensor, center: Tensor, *, temperature: float) -> Tensor:
    """Return the targets softmax((teacher - center) / ε) of teacher outputs (Daino, eq. 8), [..., K], no gradient.

    teacher: [..., K] logits; center: [K]. For teacher = center the targets are 1 / K.
    """
    return ((teacher.detach().float() - center.detach().float()) / temperature).softmax(dim=-1)


def distill(
    student: Tensor, teacher: Tensor, center: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Return the mean cross-entropy of the student with the teacher's targets (DINO, eq. 2; Daino, eq. 2), a scalar.

    student, teacher: [B, K] logits, row i of each from different views of image i; center: [K]. For a uniform student
    the loss is ln K.
    """
    target = assign(teacher, center, temperature=teacher_temperature)
    return F.cross_entropy(student.float() / student_temperature, target)


def distill_crops(
    students: Sequence[Tensor],
    teachers: Tensor,
    center: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Return the mean of `distill` over pairs of a global view (teacher) and another view (DINO, eq. 3), a scalar.

    students: V tensors [B, K], V at least 2, logits of all views, first the global ones; teachers: [G, B, K], of the
    G global views.
    """
    target = assign(teachers, center, temperature=teacher_temperature)
    pairs = [
        F.cross_entropy(student.float() / student_temperature, target[place])
        for place in range(len(teachers))
        for view, student in enumerate(students)
        if view != place
    ]
    return torch.stack(pairs).mean()


def moved_center(center: Tensor, teacher: Tensor, *, momentum: float) -> Tensor:
    """Return the updated center, μ center + (1 - μ) mean of the teacher's logits (Daino, eq. 9; DINO, eq. 4), [K].

    center: [K]; teacher: [B, K] logits. No gradient flows to either.
    """
    return momentum * center.detach().float() + (1 - momentum) * teacher.detach().float().mean(dim=0)
