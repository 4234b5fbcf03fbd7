"""The stages of a project, whose methods with few labels may need stored features or not."""

import pytest

from sslpipe.io.errors import UserError
from sslpipe.tools.pipeline import pipeline, stages_of

SETTINGS = {"prepare": {"source": "digits"}, "pretrain": {"method": "simclr", "simclr": {}}}


def with_methods(*methods, **blocks):
    return {**SETTINGS, **blocks, "semisup": {"methods": {method: {"start": "pretrain"} for method in methods}}}


def test_methods_that_read_no_features_do_without_their_stages():
    assert stages_of(with_methods("fixmatch")) == ("prepare", "pretrain", "semisup", "evaluate")
    text = pipeline(with_methods("fixmatch"))
    assert "runs/features" not in text
    assert "runs/mine-neighbors" not in text


def test_propagation_needs_features_and_neighbours():
    with pytest.raises(UserError, match=r"params.yaml: (features|mine_neighbors): missing, expected a block: semisup"):
        stages_of(with_methods("fixmatch", "propagation"))
    settings = with_methods("propagation", features={}, mine_neighbors={})
    assert stages_of(settings) == ("prepare", "pretrain", "features", "mine-neighbors", "semisup", "evaluate")
    text = pipeline(settings)
    assert "runs/features" in text
    assert "runs/mine-neighbors" in text
