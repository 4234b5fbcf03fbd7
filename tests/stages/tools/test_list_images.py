"""A folder of images under DVC: what `init` takes, `dvc repro` takes, wherever it runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sslpipe.io.errors import UserError
from sslpipe.tools.scaffold import Choice, new_project
from stages.tools.list_images import list_images

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def run(warm_bin):
    """Run dvc or git in a folder, and return what it printed."""
    path = os.pathsep.join([str(warm_bin), str(BIN), os.environ["PATH"]])
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, "PATH": path, **identity}

    def run(command, *arguments, cwd):
        program = shutil.which(command, path=path)
        done = subprocess.run(
            [program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose folder of images has what DVC refuses to hash or would wait for."""
    root = tmp_path_factory.mktemp("folder")
    photos = root / "photos"
    for place in range(40):
        (photos / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), place).save(photos / "ab"[place % 2] / f"{place}.png")
    (photos / "a" / "broken.png").symlink_to("nowhere")
    (photos / "a" / "loop.png").symlink_to("loop.png")
    (photos / "b" / "up").symlink_to(photos)
    os.mkfifo(photos / "b" / "pipe.png")
    Image.new("L", (8, 8)).save(os.fsencode(photos) + b"/b/\xff.png")
    before = os.getcwd()
    os.chdir(root)
    try:
        new_project(Path("project"), Path("photos"), None, Choice(recipe="own-images-cpu"))
    finally:
        os.chdir(before)
    return root / "project"


def test_dvc_takes_the_folder_and_runs_prepare_only_when_it_changes(project, run):
    first = run("dvc", "repro", "prepare", cwd=project)
    assert "28 train, 4 held_out, 9 test images of 2 classes, 28 labelled; 3 broken" in first
    assert "Stage 'prepare' didn't change" in run("dvc", "repro", "prepare", cwd=project)
    os.utime(project.parent / "photos" / "a" / "0.png", ns=(0, 1))
    assert "Running stage 'prepare'" in run("dvc", "repro", "prepare", cwd=project)


def test_experiments_in_temporary_folders_find_the_images(project, run):
    run("dvc", "repro", "prepare", cwd=project)
    run("git", "add", "--all", cwd=project)
    run("git", "commit", "--quiet", "--message", "first", cwd=project)
    run("dvc", "exp", "run", "--temp", "--name", "larger", "-S", "prepare.size=12", "prepare", cwd=project)
    assert "larger" in run("dvc", "exp", "show", "--csv", cwd=project)


def test_a_clone_with_pulled_outputs_needs_no_images(project, run, tmp_path):
    run("dvc", "repro", "prepare", cwd=project)
    run("git", "add", "--all", cwd=project)
    run("git", "commit", "--quiet", "--allow-empty", "--message", "second", cwd=project)
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", str(project), str(clone), cwd=tmp_path)
    shutil.copytree(project / ".dvc" / "cache", clone / ".dvc" / "cache")
    run("dvc", "checkout", "--relink", "prepare", "list-images", cwd=clone)
    out = run("dvc", "repro", "prepare", cwd=clone)
    assert "../photos does not exist; runs/list-images/files.csv stays as it is" in out
    assert "Stage 'prepare' didn't change" in out


def test_labels_that_are_found_in_the_folder_are_listed(project, run):
    table = project.parent / "photos" / "labels.csv"
    table.write_text("file,label\n" + "".join(f"{'ab'[i % 2]}/{i}.png,{'xyz'[i % 3]}\n" for i in range(40)))
    assert "test images of 3 classes" in run("dvc", "repro", "prepare", cwd=project)
    table.write_text(table.read_text().replace(",z", ",y"))
    assert "test images of 2 classes" in run("dvc", "repro", "prepare", cwd=project)
    table.unlink()
    assert "didn't change" not in run("dvc", "repro", "prepare", cwd=project)


def test_a_clone_without_images_and_outputs_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("prepare: {source: folder, folder: {path: ../photos}}\n")
    with pytest.raises(UserError, match=r"^prepare.folder.path: ../photos does not exist$"):
        list_images()


def test_a_source_without_a_folder_has_nothing_to_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("prepare: {source: digits}\n")
    with pytest.raises(UserError, match=r"prepare.source: digits reads no folder of images, nothing to list"):
        list_images()


def test_a_table_of_labelled_images_is_listed(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    Path("chosen.csv").write_text("file,label\na/0.png,\n")
    list_images(out=tmp_path / "files.csv", assignments=["prepare.labelled={images: chosen.csv}"])
    (row,) = [line for line in (tmp_path / "files.csv").read_text().splitlines() if line.startswith("chosen.csv")]
    assert row.split(",")[1] == "20"
