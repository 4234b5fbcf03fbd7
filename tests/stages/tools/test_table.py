"""The table of the last evaluation, and whether it is of the models that are there."""

import shutil
from pathlib import Path


def test_a_model_that_was_trained_again_is_named(project, at_once):
    assert "other models" not in at_once("table")[1]
    weights = Path("runs/cluster/model.safetensors")
    weights.write_bytes(Path("runs/pretrain/model.safetensors").read_bytes())
    code, out, _ = at_once("table")
    assert code == 0
    assert out.index("these metrics are of other models than are in runs/cluster now") < out.index("cluster_acc")


def test_models_that_are_not_here_are_not_compared(project, at_once):
    shutil.rmtree("runs/cluster")
    assert "other models" not in at_once("table")[1]
