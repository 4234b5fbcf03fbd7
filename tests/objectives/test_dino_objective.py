import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.objectives.dino import assign, distill, distill_crops, moved_center


def softmax(logits):
    weights = [math.exp(z) for z in logits]
    return [w / sum(weights) for w in weights]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), student_temperature=st.floats(0.1, 1.0), teacher_temperature=st.floats(0.04, 1.0))
def test_equals_eq_2_and_8_by_loops(seed, student_temperature, teacher_temperature):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, 5, generator=generator)
    center = torch.randn(5, generator=generator)
    loss = 0.0
    for b in range(4):
        target = softmax([float(teacher[b, k] - center[k]) / teacher_temperature for k in range(5)])
        answer = softmax([float(student[b, k]) / student_temperature for k in range(5)])
        loss -= sum(t * math.log(s) for t, s in zip(target, answer, strict=True)) / 4
        assigned = assign(teacher, center, temperature=teacher_temperature)[b].tolist()
        assert assigned == pytest.approx(target, rel=1e-3, abs=1e-6)
    result = distill(
        student, teacher, center, student_temperature=student_temperature, teacher_temperature=teacher_temperature
    )
    assert result.item() == pytest.approx(loss, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_centring_takes_away_what_all_answers_share(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    teacher, bias = torch.randn(6, 4, generator=generator), shift * torch.randn(4, generator=generator)
    assigned = assign(teacher, torch.zeros(4), temperature=0.1)
    torch.testing.assert_close(assign(teacher + bias, bias, temperature=0.1), assigned, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(assign(teacher + shift, torch.zeros(4), temperature=0.1), assigned, rtol=1e-3, atol=1e-4)


def test_known_values():
    one_hot, zero = torch.eye(10), torch.zeros(10)
    temperatures = {"student_temperature": 0.1, "teacher_temperature": 0.04}
    assert distill(torch.zeros(10, 10), one_hot, zero, **temperatures).item() == pytest.approx(math.log(10))
    assert distill(10 * one_hot, 10 * one_hot, zero, **temperatures).item() == pytest.approx(0, abs=1e-6)
    collapsed = one_hot[:1].expand(10, 10)
    torch.testing.assert_close(assign(collapsed, one_hot[0], temperature=0.04), torch.full((10, 10), 1 / 10))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), momentum=st.floats(0, 1))
def test_the_center_moves_as_eq_9_by_loops(seed, momentum):
    generator = torch.Generator().manual_seed(seed)
    teacher, center = torch.randn(6, 4, generator=generator), torch.randn(4, generator=generator)
    expected = [
        momentum * float(center[k]) + (1 - momentum) * sum(float(teacher[b, k]) for b in range(6)) / 6 for k in range(4)
    ]
    assert moved_center(center, teacher, momentum=momentum).tolist() == pytest.approx(expected, abs=1e-5)


def test_the_center_ends_at_the_mean_of_a_steady_teacher():
    teacher = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    center = torch.zeros(2)
    for _ in range(200):
        center = moved_center(center, teacher, momentum=0.9)
    torch.testing.assert_close(center, torch.tensor([2.0, 0.0]))


def test_only_the_student_learns_in_float32():
    student, teacher = (torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    center = torch.zeros(3, requires_grad=True)
    loss = distill(student, teacher, center, student_temperature=0.1, teacher_temperature=0.04)
    loss.backward()
    assert loss.dtype == torch.float32
    assert teacher.grad is None
    assert center.grad is None
    assert student.grad is not None
    moved = moved_center(center, teacher, momentum=0.9)
    assert moved.dtype == torch.float32
    assert not moved.requires_grad


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), crops=st.integers(2, 5))
def test_every_crop_learns_from_every_other_global_crop(seed, crops):
    """DINO, eq. 3: x in the two global views, x' in all views, x' ≠ x."""
    generator = torch.Generator().manual_seed(seed)
    students, teachers = torch.randn(crops, 3, 5, generator=generator), torch.randn(2, 3, 5, generator=generator)
    center, temperatures = (
        torch.randn(5, generator=generator),
        {"student_temperature": 0.1, "teacher_temperature": 0.04},
    )
    losses = [
        distill(students[other], teachers[x], center, **temperatures).item()
        for x in range(2)
        for other in range(crops)
        if other != x
    ]
    result = distill_crops(list(students), teachers, center, **temperatures)
    assert result.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
