"""Mean and deviation over runs, by hand and against numpy."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.metrics.repeats import print_summary, summarise
from sslpipe.metrics.table import Shown, shown_by_default

SHOWN = shown_by_default(Shown.REPEATS)


def run(**metrics: Any) -> dict[str, dict[str, Any]]:
    return {"semisup.fixmatch": {**metrics, "seed": 3, "protocol": "split", "images": 360}}


def test_by_hand() -> None:
    summary = summarise([run(acc=0.9), run(acc=0.94), run(acc=0.98)])
    assert summary == {
        "semisup.fixmatch": {
            "acc": {"mean": pytest.approx(0.94), "std": pytest.approx(0.04), "n": 3, "min": 0.9, "max": 0.98}
        }
    }


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_deviation_is_that_of_a_sample(values: list[float]) -> None:
    spread = summarise([run(acc=value) for value in values])["semisup.fixmatch"]["acc"]
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert (spread["min"], spread["max"], spread["n"]) == (min(values), max(values), len(values))


def test_what_a_run_lacks_is_left_out_and_n_says_so() -> None:
    runs = [
        run(acc=0.5, ece=0.1, gap=float("nan")),
        run(acc=0.7, ece=float("nan"), nmi=None, ari="0.5", top5_acc=True),
        {"cluster": {"cluster_acc": 0.9, "clusters_used": 10}},
    ]
    summary = summarise(runs)
    fixmatch = summary["semisup.fixmatch"]
    assert {metric: spread["n"] for metric, spread in fixmatch.items()} == {"acc": 2, "ece": 1}
    assert fixmatch["ece"] == {"mean": 0.1, "std": None, "n": 1, "min": 0.1, "max": 0.1}
    assert summary["cluster"]["clusters_used"]["mean"] == 10
    json.dumps(summary, allow_nan=False)


def test_a_model_without_any_number_keeps_its_row() -> None:
    assert summarise([run()]) == {"semisup.fixmatch": {}}
    assert summarise([]) == {}


def test_a_row_without_any_number_is_of_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary({**summarise([run(acc=0.5)]), "cluster": {}}, ("acc",), "")
    last = capsys.readouterr().out.splitlines()[-2]
    assert [cell.strip() for cell in last.strip("│").split("│")] == ["cluster", "0", "-"]


def test_the_table_states_deviation_and_n(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run(acc=0.949, ece=0.1), run(acc=0.965), run(acc=0.981)]
    runs[0]["cluster"] = {"cluster_acc": 0.9}
    print_summary(summarise(runs), None, "3 folds")
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")] for line in lines]
    assert lines[0] == "3 folds"
    assert cells[2] == ["model", "n", "acc", "cluster_acc", "ece"]
    assert cells[4] == ["semisup.fixmatch", "3", "0.965 ± 0.016", "-", "0.100 (n 1)"]
    assert cells[5] == ["cluster", "1", "-", "0.900", "-"]


def test_the_usual_table_fits_a_log_on_one_line_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = dict.fromkeys(SHOWN, 0.965)
    models = {"finetune.semisupervised": metrics, "finetune.semisupervised/projection_1": metrics}
    print_summary(summarise([models] * 2), None, "")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [line.split()[1] for line in lines] == ["finetune.semisupervised", "/projection_1"]
    for line in lines:
        assert line.count("0.965 ± 0.000") == len(SHOWN)
        assert len(line) <= 120


def test_a_metric_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summarise([run(acc=0.5, ari=0.25)]), ("ari",), "")
    shown = capsys.readouterr().out
    assert "0.250" in shown
    assert "acc" not in shown
