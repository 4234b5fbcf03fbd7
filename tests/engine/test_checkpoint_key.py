"""The key of a checkpoint: settings, inputs and the first-party code that is loaded, and nothing else."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sslpipe.engine.checkpoint import Checkpoint


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function that puts a module under a name, as if it were imported, and returns its file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def load_module(name, text="one"):
        module = ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        Path(module.__file__).write_text(text)
        monkeypatch.setitem(sys.modules, name, module)
        return Path(module.__file__)

    load_module("stages.mine_neighbors")
    return load_module


@pytest.fixture
def inputs(load):
    paths = [Path("train.npy"), Path("held_out.npy")]
    for path in paths:
        path.write_text(path.name)
    return paths


def key(inputs, settings=(1, "a"), stage="mine-neighbors", **others):
    return Checkpoint.of_stage(stage, settings=settings, inputs=inputs, **others).folder


@pytest.mark.parametrize("name", ["sslpipe.zzz", "sslpipe.nets.zzz", "stages.mine_neighbors"])
def test_the_key_follows_the_code_that_the_stage_has_loaded(name, load, inputs):
    path = load(name)
    first = key(inputs)
    path.write_text("two")
    assert key(inputs) != first
    path.write_text("one")
    assert key(inputs) == first


def test_a_module_that_is_loaded_besides_changes_the_key(load, inputs):
    first = key(inputs)
    load("sslpipe.zzz")
    assert key(inputs) != first


@pytest.mark.parametrize("name", [
    "stages.pretrain", "stages.mine_neighbors_too", "sslpipelines.zzz", "zzz", "sslpipe.engine.logs.zzz",
])  # fmt: skip
def test_other_stages_other_peoples_modules_and_logs_do_not_count(name, load, inputs):
    first = key(inputs)
    path = load(name)
    assert key(inputs) == first
    path.write_text("two")
    assert key(inputs) == first


def test_a_module_without_a_file_does_not_count(load, inputs, monkeypatch):
    first = key(inputs)
    monkeypatch.setitem(sys.modules, "sslpipe.zzz", ModuleType("sslpipe.zzz"))
    assert key(inputs) == first


@pytest.mark.parametrize("settings", [(2, "a"), (1, "b"), (1,), ("a", 1), (1, "a", None), (1.0, "a")])
def test_the_key_follows_every_setting(settings, inputs):
    assert key(inputs, settings=settings) != key(inputs)


def test_the_key_follows_the_content_of_every_input(inputs):
    keys = {key(inputs), key(inputs[:1]), key(inputs[::-1])}
    for path in inputs:
        path.write_text("another")
        keys.add(key(inputs))
    assert len(keys) == 5


def test_every_stage_has_a_folder_of_its_own(inputs):
    assert key(inputs, stage="cluster") != key(inputs, stage="pretrain")


def test_under_a_passing_folder_it_lies_in_the_projects_root(inputs, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "elsewhere")
    assert key(inputs).is_relative_to("elsewhere")


def test_nothing_else_changes_the_key(load, inputs):
    path = load("sslpipe.zzz")
    first = key(inputs)
    for file in (*inputs, path):
        os.utime(file, (0, 0))
    Path("other.npy").write_text("not read")
    Path("sslpipe.other.py").write_text("not loaded")
    moved = [file.rename(f"moved_{file.name}") for file in inputs]
    assert key(moved, every_seconds=1.0) == first
