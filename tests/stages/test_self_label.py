from pathlib import Path

import pytest

from sslpipe.io.files import sha256
from stages.self_label import self_label

OUT = Path("runs/self-label")


def test_writes_a_model_whose_parent_is_the_clusters(finished, read_csv):
    from sslpipe.nets.model_file import load_model

    _, card = load_model(finished / OUT)
    assert card.parent == sha256(finished / "runs/cluster/model.safetensors")
    rows = read_csv(finished / OUT / "history.csv")
    assert all(0 < float(row["confident"]) <= 1 for row in rows)


@pytest.mark.parametrize("targets", ["model", "averaged"])
def test_without_a_confident_image_the_groups_stay_and_it_says_what_to_lower(project, capsys, targets):
    self_label(threshold=1.0, assignments=[f"confident.targets={targets}"])
    assert "the clusters stay as they are; lower self_label.confident.threshold (1.0)" in capsys.readouterr().out
    assert sha256(OUT / "model.safetensors") == sha256(Path("runs/cluster/model.safetensors"))


def test_the_averaged_model_may_give_the_answers(project):
    self_label(epochs=1, assignments=["confident.targets=averaged", "confident.ema_decay=0.5"])
    assert (OUT / "model.safetensors").exists()
