"""The setting network.recompute in stages that train a network: the same files, also from a start without it."""

from pathlib import Path

import pytest

from sslpipe.nets import recompute
from stages.cluster import cluster
from stages.finetune import finetune
from stages.pretrain import pretrain
from stages.self_label import self_label

STAGES = {
    "pretrain": (pretrain, {}),
    "cluster": (cluster, {"assignments": ["cluster.scan.head_epochs=0"], "epochs": 1}),
    "self-label": (self_label, {}),
    "finetune": (finetune, {"method": "supervised"}),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_the_same_files(stage, project, monkeypatch):
    parts, own = [], recompute.recomputing
    monkeypatch.setattr(recompute, "recomputing", lambda part: parts.append(part) or own(part))
    run, options = STAGES[stage]
    run(**{**options, "out": Path("plain")})
    assert not parts
    run(**{**options, "out": Path("again"), "assignments": ["network.recompute=true", *options.get("assignments", ())]})
    assert parts
    files = [path for path in Path("plain").iterdir() if path.is_file()]
    assert {"model.safetensors", "model.json", "history.csv"} <= {path.name for path in files}
    assert all((Path("again") / path.name).read_bytes() == path.read_bytes() for path in files)
