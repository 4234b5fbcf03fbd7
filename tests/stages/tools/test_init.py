"""What `init` prints and refuses."""

import os
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from sslpipe.io.errors import UserError
from stages.tools.init import init


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in range(40):
        Path("photos").mkdir(exist_ok=True)
        Image.new("L", (8, 8), place).save(f"photos/{place}.png")
    return Path("photos")


def test_the_next_command_can_be_copied(photos, capsys, monkeypatch):
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    init(Path("my project's"), photos, from_scratch=True)
    line = next(line for line in capsys.readouterr().out.splitlines() if "dvc repro" in line)
    assert shlex.split(line) == ["cd", "my project's", "&&", "dvc", "repro"]
    monkeypatch.chdir("my project's")
    Path("labels.csv").write_text("file,label\n" + "".join(f"{place}.png,{place % 2}\n" for place in range(40)))
    init(Path(), labels=Path("labels.csv"))
    assert "next:\n  dvc repro\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "classes"},
        {"recipe": "own-images"},
        {"features": "dinov2_s"},
        {"download": True},
        {"from_scratch": True},
    ],
)
def test_options_that_an_existing_project_does_not_take_are_refused(photos, options):
    init(Path("project"), photos, from_scratch=True)
    Path("labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(40)))
    with pytest.raises(UserError, match=f"--{next(iter(options)).replace('_', '-')}: needs --images"):
        init(Path("project"), labels=Path("labels.csv"), **options)
