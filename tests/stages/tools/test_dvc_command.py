import subprocess
import sys
from pathlib import Path

import pytest

from sslpipe.io.own_programs import repro_command

PROGRAM = Path(sys.executable).parent / "sslpipe"


def call(*arguments, folder, path):
    return subprocess.run(
        [str(PROGRAM), *arguments], cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_stages_find_sslpipe_without_a_path_to_it(tmp_path):
    """What `pipx install` gives: sslpipe alone is on PATH, and the environment's other programs are not."""
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: sslpipe settings > blocks.txt\n    outs: [blocks.txt]\n"
    )
    system = "/usr/bin:/bin"
    assert call("dvc", "init", "--no-scm", "--quiet", folder=tmp_path, path=system).returncode == 0
    done = call("dvc", "repro", "--quiet", folder=tmp_path, path=system)
    assert done.returncode == 0, done.stderr
    assert "cluster.scan" in (tmp_path / "blocks.txt").read_text()


def test_arguments_and_exit_code_are_those_of_dvc(tmp_path):
    asked = call("dvc", "repro", "--help", folder=tmp_path, path="/usr/bin:/bin")
    assert asked.returncode == 0
    assert asked.stdout.startswith("usage: dvc repro")
    assert call("dvc", "repro", folder=tmp_path, path="/usr/bin:/bin").returncode not in (0, 2)


@pytest.mark.parametrize(
    ("programs", "expected"),
    [(["sslpipe", "dvc"], "dvc repro"), (["sslpipe"], "sslpipe dvc repro"), ([], f"{PROGRAM} dvc repro")],
)
def test_the_next_command_is_one_that_is_found(tmp_path, monkeypatch, programs, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in programs:
        (tmp_path / name).touch(mode=0o755)
    assert repro_command() == expected
