import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.io.stage_end import BY_DVC, next_command, print_end, size_text, written

ROOT = Path(__file__).parents[2]
METHODS = {"semisup": {"methods": {"fixmatch": {}, "suave": {}}}, "finetune": {"methods": {"linear": {}}}}
ORDER = [
    ("prepare", None, "sslpipe pretrain"),
    ("pretrain", None, "sslpipe features"),
    ("features", None, "sslpipe mine-neighbors"),
    ("mine-neighbors", None, "sslpipe cluster"),
    ("cluster", None, "sslpipe self-label"),
    ("self-label", None, "sslpipe semisup --method fixmatch"),
    ("semisup", "fixmatch", "sslpipe semisup --method suave"),
    ("semisup", "suave", "sslpipe finetune --method linear"),
    ("finetune", "linear", "sslpipe evaluate"),
    ("evaluate", None, "sslpipe report"),
    ("report", None, None),
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the repository's dvc.yaml, and not run by DVC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(BY_DVC, raising=False)
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize(("stage", "method", "command"), ORDER)
def test_the_next_command_is_that_of_the_pipeline(project, stage, method, command):
    assert next_command(stage, method, METHODS) == command


def test_methods_that_are_not_listed_are_left_out(project):
    assert next_command("self-label", None, {"semisup": None}) == "sslpipe evaluate"
    assert next_command("semisup", "uda", METHODS) is None


@pytest.mark.parametrize("content", [None, "", "[", "stages: 3", "stages: {prepare: 1}", "stages: {semisup: {}}"])
def test_without_a_pipeline_there_is_no_next_command(project, content):
    Path("dvc.yaml").unlink()
    if content is not None:
        Path("dvc.yaml").write_text(content)
    assert next_command("prepare", None, METHODS) is None


def test_the_end_of_a_stage(project, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    out = Path("runs/pretrain")
    out.mkdir(parents=True)
    (out / "model.safetensors").write_bytes(bytes(2_400_000))
    (out / "history.csv").write_text('a,b\n1,"two\nlines"\n3,4\n')
    print_end("pretrain", out, "pretrain.simclr: loss 2 → 1", METHODS)
    lines = ["runs/pretrain: model.safetensors 2.4 MB, history.csv 2 rows", "pretrain.simclr: loss 2 → 1"]
    assert capsys.readouterr().out.splitlines() == [*lines, "next: sslpipe features, or dvc repro"]
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "sslpipe" else None)  # pipx, uv tool
    print_end("pretrain", out, "pretrain.simclr: loss 2 → 1", METHODS)
    assert capsys.readouterr().out.splitlines() == [*lines, "next: sslpipe features, or sslpipe dvc repro"]
    monkeypatch.setitem(os.environ, BY_DVC, "pretrain")
    print_end("pretrain", out, "pretrain.simclr: loss 2 → 1", METHODS)
    assert capsys.readouterr().out.splitlines() == lines


def test_the_largest_entries_are_named(tmp_path):
    assert written(tmp_path) == f"{tmp_path}: empty"
    for number in range(5):
        folder = tmp_path / f"part-{number}" / "deeper"
        folder.mkdir(parents=True)
        (folder / "a").write_bytes(bytes(1000 * (number + 1)))
    text = "part-4/ 5.0 kB, part-3/ 4.0 kB, part-2/ 3.0 kB and 2 more"
    assert written(tmp_path) == f"{tmp_path}: {text}"
    assert written(tmp_path / "part-0/deeper/a").endswith("a: 1.0 kB")


@given(st.integers(0, 10**18))
def test_a_size_has_at_most_four_digits_and_is_right(size):
    number, unit = size_text(size).split()
    exact = size / {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) == pytest.approx(exact, abs=0.051 if "." in number else 0.501)
    assert len(number) <= 3 or unit == "TB"
