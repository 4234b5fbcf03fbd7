import torch


def test_says_what_would_be_used(at_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = at_once("doctor")
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["torch"] == torch.__version__.partition("+")[0]
    assert rows["device"].endswith("--device auto takes cpu, float32") or torch.cuda.is_available()
    assert rows["project"].endswith("'sslpipe init' makes one")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    assert "params.yaml in " in at_once("doctor")[1]


def test_says_what_is_missing(at_once, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = dict(line.split(maxsplit=1) for line in at_once("doctor")[1].splitlines())
    assert rows["git"] == "not found on PATH; 'dvc repro' needs it"
    assert rows["dvc"].endswith("its command is not on PATH; 'sslpipe dvc repro' runs it")
