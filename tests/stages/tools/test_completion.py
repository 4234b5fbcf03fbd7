"""Tab in bash: what the completion that typer installs gets from the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def completed(line, folder):
    words = line.split(" ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_SSLPIPE_COMPLETE": "complete_bash",
                   "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
    command = [sys.executable, "-c", "from sslpipe.__main__ import main; import sys; sys.argv[0] = 'sslpipe'; main()"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.mark.parametrize(("line", "expected"), [
    ("sslpipe mine", ["mine-neighbors"]),
    ("sslpipe cluster --method scan", ["scan", "scan_heads"]),
    ("sslpipe self-label --method nei", ["neighbors"]),
    ("sslpipe recipe show digits-mo", ["digits-moco"]),
    ("sslpipe settings cluster.sp", ["cluster.spectral"]),
    ("sslpipe pretrain --log ten", ["tensorboard"]),
    ("sslpipe log --to ten", ["tensorboard"]),
    ("sslpipe predict runs/s", ["runs/self-label", "runs/semisup/propagation"]),
])  # fmt: skip
def test_names_are_completed(tmp_path, line, expected):
    for name in ("self-label", "semisup/propagation", "pretrain"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.json").write_text("{}")
    assert completed(line, tmp_path) == expected


def test_bash_gets_a_script(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "stages", "--show-completion", "bash"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    script = tmp_path / "completion.sh"
    script.write_text(done.stdout)
    assert "complete -o default -F" in done.stdout
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
