from pathlib import Path

import numpy as np
import pytest

from sslpipe.tools.ask_models import Outputs, calibrated, held_out_line

PROBABILITY = np.random.default_rng(0).dirichlet(np.full(5, 0.1), 400).astype(np.float32)


@pytest.mark.parametrize("confidence", [0.4, 0.8, 0.95])
def test_the_mean_confidence_becomes_the_accuracy_and_no_prediction_changes(confidence):
    found = calibrated(PROBABILITY, confidence)
    assert found.max(axis=1).mean() == pytest.approx(confidence, abs=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    sure = PROBABILITY.max(axis=1) < 1
    np.testing.assert_array_equal(found.argmax(axis=1)[sure], PROBABILITY.argmax(axis=1)[sure])


def test_the_accuracy_on_held_out_images_with_a_label():
    outputs = Outputs(Path("runs/semisup/propagation"), ("a", "b"), np.zeros((0, 2)), np.eye(2)[[0, 0, 1, 1, 1]])
    line, accuracy = held_out_line(outputs, np.array([0, 1, -1, 1, 1]))
    assert accuracy == 0.75
    assert "runs/semisup/propagation: accuracy 0.750 ± 0.171 on 4 random held-out images, which" in line
    line, accuracy = held_out_line(outputs, np.full(5, -1))
    assert accuracy is None
    assert "no random held-out image has a label" in line
