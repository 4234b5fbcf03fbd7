import json
import os

import pytest

from sslpipe.reporting.summary import originals, title_of_project, without_machine


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/me/cats", "…/cats"),
        ("~/cats", "…/cats"),
        (r"C:\photos\cats", "…/cats"),
        ("../cats", "../cats"),
        ("simclr", "simclr"),
        ("1/2", "1/2"),
        (["/a/b", {"path": "/a/c"}, 3, None], ["…/b", {"path": "…/c"}, 3, None]),
        (0.5, 0.5),
    ],
)
def test_paths_of_this_machine_are_shortened(value, expected):
    assert without_machine(value) == expected


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Write the source that prepare has read."""
    (tmp_path / "project/runs/prepare").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")

    def write(**settings):
        text = json.dumps({"source": settings})
        (tmp_path / "project/runs/prepare/report.json").write_text(text)
        return tmp_path / "project/runs/prepare"

    return write


def test_originals_are_linked_relative_to_the_report(source, tmp_path):
    (tmp_path / "my #1 cats").mkdir()
    prepared = source(name="folder", path="../my #1 cats")
    assert originals(prepared, tmp_path / "project/runs/report") == "../../../my%20%231%20cats/"
    assert title_of_project(prepared) == "my #1 cats"
    os.rmdir(tmp_path / "my #1 cats")
    assert originals(prepared, tmp_path / "project/runs/report") is None


def test_a_data_set_has_no_originals(source, tmp_path):
    prepared = source(name="digits")
    assert (originals(prepared, tmp_path), title_of_project(prepared)) == (None, "digits")


@pytest.mark.parametrize("path", [".", "..", "../"])
def test_a_folder_without_a_name_has_that_of_the_source(source, path):
    assert title_of_project(source(name="folder", path=path)) == "folder"
