"""All stages in order, on other kinds of input than the demonstration's."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from sslpipe.io.errors import UserError
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.features import features
from stages.finetune import finetune
from stages.mine_neighbors import mine_neighbors
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.self_label import self_label
from stages.semisup import semisup


@pytest.fixture
def run_all(tmp_path, monkeypatch, tiny):
    """Run every stage on changed settings; the content of runs/evaluate/metrics.json."""

    def run(*assignments, labelled=True):
        monkeypatch.chdir(tmp_path)
        Path("params.yaml").write_text(yaml.safe_dump(tiny))
        prepare(assignments=list(assignments))
        pretrain(epochs=1, batch=32)
        features()
        mine_neighbors()
        cluster(epochs=2, batch=32, assignments=["scan.head_epochs=1"])
        self_label(epochs=1, batch=32)
        if labelled:
            semisup("fixmatch", start="self-label", epochs=1, batch=32)
            finetune("linear", start="semisup/fixmatch")
        else:
            with pytest.raises(UserError, match=r"runs/prepare/labelled: no image is labelled"):
                semisup("fixmatch")
        evaluate()
        return json.loads(Path("runs/evaluate/metrics.json").read_text())

    return run


def test_protocol_full_trains_and_scores_on_all_images(run_all):
    metrics = run_all("protocol=full")
    assert metrics["cluster"]["protocol"] == "full"
    assert metrics["cluster"]["images"] == 1797
    assert metrics["kmeans_pixels"]["cluster_acc"] > 0.6
    for model in ("semisup.fixmatch", "finetune.linear"):
        assert (metrics[model]["protocol"], metrics[model]["images"], metrics[model]["labels"]) == ("full", 1797, 40)
        assert metrics[model]["acc"] > 0.3


def test_a_flat_folder_without_labels_goes_through_with_figures_that_need_none(run_all, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(load_digits().images[:300]):
        Image.fromarray((pixels * 15).astype("uint8")).save(folder / f"{number}.png")
    metrics = run_all("source=folder", f"folder.path={folder}", "held_out=0.2", "labelled=null", labelled=False)
    assert metrics["cluster"]["images"] == 75
    assert "cluster_acc" not in metrics["cluster"]
    assert 0 < metrics["self_label"]["largest_share"] <= 1
    assert "semisup.fixmatch" not in metrics
