import re

import torch

from sslpipe.data.device_probe import Probe


def test_says_what_would_be_used(at_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = at_once("doctor")
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["torch"] == torch.__version__.partition("+")[0]
    assert re.search(r"--device auto takes cpu, \d+ threads?$", rows["device"]) or torch.cuda.is_available()
    assert rows["project"].endswith("'sslpipe init' makes one")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    assert "params.yaml in " in at_once("doctor")[1]


def test_says_what_is_missing(at_once, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = dict(line.split(maxsplit=1) for line in at_once("doctor")[1].splitlines())
    assert rows["git"] == "not found on PATH; 'dvc repro' needs it"
    assert rows["dvc"].endswith("its command is not on PATH; 'sslpipe dvc repro' runs it")


def test_says_whether_an_apple_gpu_would_be_used(at_once, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for missing, found in [((), "mps, float32"), (("views",), r"cpu, \d+ threads? \(mps lacks views; .*\)")]:
        monkeypatch.setattr("sslpipe.data.device.probe", lambda given, missing=missing: Probe(missing))
        rows = dict(line.split(maxsplit=1) for line in at_once("doctor")[1].splitlines())
        assert re.fullmatch(f"an Apple GPU \\(mps\\); --device auto takes {found}", rows["device"])
