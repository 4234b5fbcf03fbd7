"""DINO: the student predicts a centred and sharpened teacher (Caron et al. 2021; Suave and Daino, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def assign(teacher: Tensor, center: Tensor, *, temperature: float) -> Tensor:
    """Target of a teacher's answers, softmax((teacher - center) / ε) (Daino, eq. 8), [..., K], without gradient.

    teacher: [..., K] logits; center: [K]. At teacher = center it is 1 / K.
    """
    return ((teacher.detach().float() - center.detach().float()) / temperature).softmax(dim=-1)


def distill(
    student: Tensor, teacher: Tensor, center: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy of the student on the teacher's assignment (DINO, eq. 2; Daino, eq. 2), a scalar.

    student, teacher: [B, K] logits, row i of each from image i, in different views; center: [K]. The mean over
    images. At a uniform student: ln K.
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
    """`distill` of every crop on every other global crop (DINO, eq. 3), a scalar.

    students: V tensors [B, K], V at least 2, logits of all crops, the global ones first; teachers: [G, B, K], of the
    G global crops. The mean over pairs of a global crop and another crop.
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
    """μ center + (1 - μ) mean of the teacher's answers (Daino, eq. 9; DINO, eq. 4), [K], without gradient.

    center: [K]; teacher: [B, K] logits.
    """
    return momentum * center.detach().float() + (1 - momentum) * teacher.detach().float().mean(dim=0)
