"""The last lines of every stage: what it wrote, what it learned, what comes next; none is longer than it must be."""

import re
from pathlib import Path

import pytest

from sslpipe.io.stage_end import BY_DVC

LEARNED = {
    "prepare": r"prepare: 1213 train, .*",
    "pretrain": r"pretrain\.simclr: loss \S+ → \S+ \(chance \S+\), 2 epochs in \d+ s, held-out view retrieval@1 \S+",
    "features": r"features: 64 features of each of 1797 images, by torch .*",
    "mine-neighbors": r"mine-neighbors: 6 an image; of the same class: 0\.\d+ at k = 1, 0\.\d+ at k = 6",
    "cluster": r"cluster\.scan: loss \S+ → \S+ \(chance \S+\), 2 epochs in \d+ s, \d+ of 10 clusters used, .* \d+%",
    "self-label": r"self_label\.confident: loss .* clusters used, the largest \d+%, confident share \S+",
    "evaluate": r"evaluate: \d+ rows; highest acc 0\.\d+, \S+; highest cluster_acc 0\.\d+, \S+",
}


@pytest.mark.parametrize("by_dvc", [False, True])
def test_every_stage_says_what_it_wrote_and_learned(project, tmp_path, at_once, monkeypatch, by_dvc):
    if by_dvc:
        monkeypatch.setenv(BY_DVC, "stage")
    else:
        monkeypatch.delenv(BY_DVC, raising=False)
    Path("dvc.yaml").write_text((Path(__file__).parents[2] / "dvc.yaml").read_text())
    for stage in ["mine-neighbors"] if by_dvc else LEARNED:
        code, out, err = at_once(stage)
        assert (code, err) == (0, "")
        *_, wrote, learned = [line for line in out.splitlines() if not line.startswith("next: ")]
        assert wrote.startswith(f"runs/{stage}: ")
        assert re.fullmatch(LEARNED[stage], learned)
        assert out.splitlines()[-1].startswith("next: sslpipe ") != by_dvc
