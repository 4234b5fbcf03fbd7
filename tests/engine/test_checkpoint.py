from pathlib import Path

import pytest

from sslpipe.engine.checkpoint import Checkpoint


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("input.npy")
    path.write_bytes(b"one")
    return path


def key(data, stage="cluster", settings=(1, "a")):
    return Checkpoint.of_stage(stage, settings=settings, inputs=[data]).folder


def test_the_key_follows_settings_inputs_and_stage(data):
    first = key(data)
    assert key(data) == first
    assert key(data, settings=(2, "a")) != first
    assert key(data, stage="pretrain") != first
    data.write_bytes(b"two")
    assert key(data) != first


def test_under_a_passing_folder_it_lies_in_the_projects_root(data, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "elsewhere")
    assert key(data).is_relative_to("elsewhere")
