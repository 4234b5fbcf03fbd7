import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.rotnet import rotation


@given(seed=st.integers(0, 1000), images=st.integers(1, 5))
def test_equals_the_paper_by_loops(seed, images):
    """RotNet, eq. 2 and 3: -1/4 sum over y of log F^y(g(X | y)), averaged over images."""
    logits = torch.randn(4 * images, 4, generator=torch.Generator().manual_seed(seed))
    expected = 0.0
    for turns in range(4):
        for image in range(images):
            row = [math.exp(z) for z in logits[turns * images + image].tolist()]
            expected -= math.log(row[turns] / sum(row)) / 4 / images
    assert rotation(logits).item() == pytest.approx(expected, rel=1e-4)


def test_known_values():
    assert rotation(torch.zeros(12, 4)).item() == pytest.approx(math.log(4))
    sure = 50 * torch.eye(4).repeat_interleave(3, dim=0)
    assert rotation(sure).item() == pytest.approx(0, abs=1e-6)
    assert rotation(sure.roll(3, 0)).item() == pytest.approx(50)
