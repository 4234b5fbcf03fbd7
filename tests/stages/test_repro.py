"""The pipeline under DVC, in a copy of the repository with small budgets."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command, cwd):
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(output):
    return re.findall(r"Running stage '(.*?)'", output)


@pytest.fixture(scope="module")
def repository(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("clone")
    for name in ("sslpipe", "stages", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny))
    run("git", "init", "-q", cwd=folder)
    return folder


def change(repository, **blocks):
    path = repository / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, values in blocks.items():
        params[name] |= values
    path.write_text(yaml.safe_dump(params))


def test_runs_what_changed_and_nothing_else(repository):
    every = ["prepare", "pretrain", "mine-neighbors", "cluster", "self-label", "evaluate"]
    assert stages_run(run("dvc", "repro", cwd=repository)) == every
    assert stages_run(run("dvc", "repro", cwd=repository)) == []

    change(repository, cluster={"entropy_weight": 3.0})
    assert stages_run(run("dvc", "repro", cwd=repository)) == ["cluster", "self-label", "evaluate"]

    block = yaml.safe_load((repository / "params.yaml").read_text())["pretrain"]["nce"]
    change(repository, pretrain={"nce": {**block, "temperature": 0.2}})
    assert stages_run(run("dvc", "repro", cwd=repository)) == []

    change(repository, prepare={"labelled": {"per_class": 2}})
    assert stages_run(run("dvc", "repro", cwd=repository)) == ["prepare", "evaluate"]

    change(repository, pretrain={"method": "nce"})
    assert stages_run(run("dvc", "repro", cwd=repository)) == every[1:]
    change(repository, pretrain={"method": "simclr"})
    assert stages_run(run("dvc", "repro", cwd=repository)) == []
    metrics = yaml.safe_load(run("dvc", "metrics", "show", "--json", cwd=repository))
    assert "cluster_acc" in str(metrics)
