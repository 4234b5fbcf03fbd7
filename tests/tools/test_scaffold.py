import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from PIL import Image
from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.io.version import own_version
from sslpipe.tools.autoconfig import GUESS, _fit_neighbors, settings_for
from sslpipe.tools.folder_summary import FolderSummary, relative, scan_folder
from sslpipe.tools.layout_table import print_layout
from sslpipe.tools.pipeline import pipeline, stages_of
from sslpipe.tools.scaffold import Choice, add_labels, new_project, use_recipe
from sslpipe.tools.settings_schema import schema

pytestmark = pytest.mark.usefixtures("warm_python")

SUMMARY = FolderSummary(
    images=2000, width=100, height=110, side=100, channels=3, broken=0, sampled=200,
    classes=tuple("abcdefghij"), labelled=2000, rarest=200, rarest_class="c",
)  # fmt: skip
SCRATCH = Choice(recipe="own-images-cpu")
UNSUPERVISED = ["prepare", "pretrain", "features", "mine-neighbors", "cluster", "self-label", "evaluate", "report"]


def summary(**changes):
    return FolderSummary(**{**SUMMARY.__dict__, **changes})


def write_picture(path, *, size=(30, 24), mode="RGB", value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


@pytest.fixture
def photos(tmp_path):
    for place in range(40):
        write_picture(tmp_path / "photos" / f"{place}.png", value=place)
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(8)))
    return tmp_path / "photos"


def fitted(summary, recipe="own-images-cpu", labels=None):
    return settings_for(recipe, summary, "photos", labels)


def test_what_a_folder_holds(photos):
    found = scan_folder(photos, None)
    assert str(found) == "40 images, about 30 × 24 px, colour, no labels"
    assert str(scan_folder(photos, photos.parent / "labels.csv")).endswith("2 classes, 8 labelled")
    (photos / "0.png").write_bytes(b"\x89PNG")
    assert scan_folder(photos, None).broken == 1


def test_grey_images_are_seen_to_be_grey_whatever_their_files_say(tmp_path):
    for place in range(4):
        write_picture(tmp_path / f"{place}.jpg", mode="L")
        Image.open(tmp_path / f"{place}.jpg").convert("RGB").save(tmp_path / f"{place}.jpg", quality=60)
    assert scan_folder(tmp_path, None).channels == 1
    write_picture(tmp_path / "colour.jpg")
    assert scan_folder(tmp_path, None).channels == 3


def test_only_broken_images_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="none of 1 sampled images"):
        scan_folder(tmp_path, None)


def test_settings_fit_what_was_summary():
    tree = fitted(SUMMARY)
    assert tree["sslpipe"] == own_version()
    assert tree["prepare"] == {
        "source": "folder", "folder": {"path": "photos", "layout": None, "labels": None}, "size": 32, "channels": 3,
        "test": 0.2, "held_out": 0.1, "draw": "by_class", "labelled": None,
    }  # fmt: skip
    assert tree["cluster"]["clusters"] == 10
    assert set(tree["pretrain"]) == {"method", "simclr"}
    small = fitted(summary(side=20, channels=1))["prepare"]
    assert (small["size"], small["channels"]) == (20, 1)


def test_many_images_make_fewer_epochs_and_few_make_small_batches():
    many = fitted(summary(images=100_000))["pretrain"]["simclr"]["fit"]
    assert many["epochs"] == 5
    assert many["batch"] == 128
    some = fitted(summary(images=20_000))["pretrain"]["simclr"]["fit"]
    assert some["epochs"] == 400_000 // 14_400
    few = fitted(summary(images=100, classes=("a", "b"), labelled=100, rarest=50))
    assert few["pretrain"]["simclr"]["fit"]["batch"] == 16
    assert few["pretrain"]["simclr"]["fit"]["epochs"] == 100
    assert few["mine_neighbors"] == {"k": 18, "held_out_k": 2}
    val = fitted(summary(images=2040, held_out=40))
    assert val["mine_neighbors"] == {"k": 20, "held_out_k": 2}


def test_methods_count_no_more_neighbours_than_are_mined():
    tree = CommentedMap(mine_neighbors=CommentedMap(), cluster=CommentedMap(method="kmeans"))
    tree["self_label"] = CommentedMap(method="neighbors", neighbors=CommentedMap())
    _fit_neighbors(tree, 72, summary(images=100, classes=("a", "b"), labelled=100, rarest=50))
    assert tree["mine_neighbors"]["k"] == tree["self_label"]["neighbors"]["neighbors"] == 18
    assert tree["cluster"] == {"method": "kmeans"}


def test_without_labels_no_stage_needs_any():
    tree = fitted(summary(classes=(), labelled=0, rarest=0))
    assert "semisup" not in tree
    assert "finetune" not in tree
    assert tree["cluster"]["clusters"] == GUESS
    assert tree["prepare"]["draw"] == "blind"
    assert set(tree["pretrain"]) == {"method", "simclr"}
    assert list(stages_of(tree)) == UNSUPERVISED
    text = pipeline(tree)
    assert "labelled" not in text
    assert "confusion" not in text


def test_few_labels_all_serve_training():
    assert fitted(summary(labelled=50, rarest=5))["prepare"]["draw"] == "unlabelled"
    assert fitted(summary(labelled=500, rarest=50))["prepare"]["draw"] == "by_class"


def test_folders_too_small_are_refused():
    with pytest.raises(UserError, match="29 images found, expected at least 30"):
        fitted(summary(images=29))
    with pytest.raises(UserError, match="3 images to train on found, expected at least 30"):
        fitted(summary(images=63, test=60, classes=(), labelled=0, rarest=0))
    with pytest.raises(UserError, match="1 image for model selection found in val/, expected at least 2"):
        fitted(summary(held_out=1))
    with pytest.raises(UserError, match="'c' has 2 images to train on"):
        fitted(summary(rarest=2))


def test_the_pipeline_has_the_project_s_stages_and_none_of_the_code():
    tree = fitted(SUMMARY)
    content = yaml.safe_load(pipeline(tree))
    assert list(content["stages"]) == ["list-images", *UNSUPERVISED[:-2], "semisup", "finetune", "evaluate", "report"]
    listing = content["stages"].pop("list-images")
    assert listing["always_changed"]
    assert listing["params"] == ["prepare.source", "prepare.folder"]
    for stage in content["stages"].values():
        inner = stage.get("do", stage)
        assert inner["params"][0] == "sslpipe"
        assert not any(dep.startswith(("sslpipe", "stages")) for dep in inner["deps"])
    assert content["stages"]["prepare"]["deps"] == ["runs/list-images/files.csv"]
    assert "runs/semisup" in content["stages"]["evaluate"]["deps"]


def test_a_recipe_from_scratch_has_no_stages_without_labels():
    tree = fitted(SUMMARY, recipe="fixmatch-cifar10-40")
    tree["prepare"]["source"] = "cifar10"
    content = yaml.safe_load(pipeline(tree))
    assert list(content["stages"]) == ["prepare", "semisup", "evaluate", "report"]
    assert content["stages"]["evaluate"]["deps"] == ["runs/prepare", "runs/semisup"]
    assert content["stages"]["evaluate"]["params"] == ["sslpipe", "seed", "network", "evaluate", "semisup"]
    assert "metrics" in content
    assert "deps" not in content["stages"]["prepare"]


def test_a_stage_that_another_reads_is_missed():
    with pytest.raises(UserError, match="mine_neighbors: missing, expected a block: cluster reads its outputs"):
        stages_of({"pretrain": {}, "cluster": {}})


def test_a_project_is_made_and_labels_join_it(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Path("project")
    made = new_project(project, Path("photos"), None, SCRATCH)
    assert made.files == ("params.yaml", "params.schema.json", "dvc.yaml", ".gitignore", ".dvcignore", "git", "dvc")
    assert made.model == "self-label"
    before = yaml.safe_load((project / "params.yaml").read_text())
    assert before["prepare"]["folder"]["path"] == "../photos"
    with pytest.raises(UserError, match=r"project/params\.yaml: already exists"):
        new_project(project, Path("photos"), None, SCRATCH)

    made = add_labels(project, Path("labels.csv"))
    assert made.model == "semisup/simmatch"
    after = yaml.safe_load((project / "params.yaml").read_text())
    assert after["prepare"] == {
        **before["prepare"],
        "folder": {**before["prepare"]["folder"], "labels": "../labels.csv"},
    }
    assert {key: after[key] for key in before if key != "prepare"} == {
        key: value for key, value in before.items() if key != "prepare"
    }
    assert after["semisup"]["simmatch"]["fit"]["batch"] == 8
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    assert content["stages"]["prepare"]["deps"] == ["runs/list-images/files.csv"]
    assert "# a guess" in (project / "params.yaml").read_text()
    assert (project / "params.yaml").read_text().startswith("# yaml-language-server: $schema=params.schema.json\n")
    found = json.loads((project / "params.schema.json").read_text())
    assert found == schema()
    assert all(Draft202012Validator(found).is_valid(tree) for tree in (before, after))


def test_labels_that_a_new_table_takes_the_place_of_are_counted(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Path("project")
    new_project(project, Path("photos"), None, SCRATCH)
    first = add_labels(project, Path("labels.csv"))
    assert not [line for line in first.notes if "label" in line and line.startswith("labels.csv")]
    header, kept, changed, *gone = Path("labels.csv").read_text().split()
    name, label = changed.split(",")
    other = next(row.split(",")[1] for row in gone if row.split(",")[1] != label)
    Path("new.csv").write_text("\n".join([header, kept, f"{name},{other}", *gone[2:], ""]))
    lines = add_labels(project, Path("new.csv")).notes[:2]
    lost = gone[0].split(",")[0]
    assert lines == (
        f"new.csv: 2 images labelled by ../labels.csv without a label there, such as '{lost}'; to keep these labels, "
        "put them into new.csv",
        f"new.csv: 1 image with another label than by ../labels.csv, such as '{name}': '{other}', before '{label}'",
    )
    assert len(add_labels(project, Path("new.csv")).notes) == 1


def test_a_file_with_the_schemas_name_is_left_alone(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("project").mkdir()
    Path("project/params.schema.json").write_text("mine")
    with pytest.raises(UserError, match=r"project/params\.schema\.json: already exists; name another folder or move"):
        new_project(Path("project"), Path("photos"), None, SCRATCH)
    with pytest.raises(UserError, match=r"project/params\.schema\.json: already exists; overwrite it with --force"):
        use_recipe("digits-moco", Path("project"))
    assert [path.name for path in Path("project").iterdir()] == ["params.schema.json"]
    assert Path("project/params.schema.json").read_text() == "mine"


def test_a_pipeline_that_was_changed_by_hand_is_left_alone(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_project(Path("project"), Path("photos"), None, SCRATCH)
    path = Path("project/dvc.yaml")
    path.write_text(path.read_text() + "\n# mine\n")
    before = Path("project/params.yaml").read_bytes()
    with pytest.raises(UserError, match="changed since 'sslpipe init' wrote it"):
        add_labels(Path("project"), Path("labels.csv"))
    assert Path("project/params.yaml").read_bytes() == before


def test_labels_alone_need_a_project(photos, tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: missing; a new project needs --images"):
        add_labels(tmp_path / "project", photos.parent / "labels.csv")
    with pytest.raises(UserError, match="--images: missing"):
        add_labels(tmp_path / "project", None)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_project_may_be_a_part_of_a_repository(photos, tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    made = new_project(tmp_path / "project", photos, None, SCRATCH)
    assert "git" not in made.files
    assert (tmp_path / "project/.dvc").is_dir()


def test_nothing_is_written_for_a_folder_that_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image found"):
        new_project(tmp_path / "project", tmp_path / "empty", None, SCRATCH)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize("place", [".", "project"])
def test_a_project_within_its_images_is_refused(photos, place):
    with pytest.raises(UserError, match=r"is inside .*photos, expected a folder outside of the images"):
        new_project(photos / place, photos, None, SCRATCH)


def test_images_inside_the_project_are_left_to_neither_git_nor_dvc(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_project(Path("."), Path("photos"), None, SCRATCH)
    assert "/photos/" in Path(".gitignore").read_text().splitlines()
    assert "/photos/" in Path(".dvcignore").read_text().splitlines()
    assert "photos/" not in subprocess.run(["git", "status", "--short"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["*a[b]?", "!a", "#a b", "a\\b", "a\nb", "trail ", "a/b"])
def test_images_with_special_characters_are_left_to_neither_git_nor_dvc(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    for place in range(40):
        write_picture(folder / f"{place}.png", size=(4, 4), value=place)
    Path(".gitignore").write_text("*.log\n/runs/")
    new_project(Path("."), folder, None, SCRATCH)
    lines = Path(".gitignore").read_text().splitlines()
    assert lines[:2] == ["*.log", "/runs/"]
    assert (lines.count("/runs/"), lines.count("/exported/")) == (1, 1)
    for command in (["git", "check-ignore"], [sys.executable, "-m", "dvc", "check-ignore"]):
        subprocess.run([*command, str(folder / "0.png")], check=True, capture_output=True)


def test_the_project_s_name_is_a_comment_of_one_line(photos, tmp_path):
    new_project(tmp_path / "a\nb: 1", photos, None, SCRATCH)
    text = (tmp_path / "a\nb: 1" / "params.yaml").read_text()
    assert text.splitlines()[1].startswith(r"# 'a\nb: 1': created by")
    assert "b" not in yaml.safe_load(text)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_project_that_git_ignores_is_refused_with_the_reason(photos, tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("project/\n")
    with pytest.raises(UserError, match=r"dvc failed: .*is ignored by your SCM tool"):
        new_project(tmp_path / "project", photos, None, SCRATCH)


def test_test_images_alone_may_have_labels(tmp_path):
    for place in range(40):
        write_picture(tmp_path / "train" / "good" / f"{place}.png", value=place)
        write_picture(tmp_path / "test" / ("good" if place % 2 else "broken") / f"{place}.png", value=place)
    summary = scan_folder(tmp_path, None)
    tree = fitted(summary)
    assert (tree["prepare"]["draw"], tree["cluster"]["clusters"]) == ("blind", 2)
    assert list(stages_of(tree)) == UNSUPERVISED


def test_the_reason_why_images_are_broken_is_printed(tmp_path):
    write_picture(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"")
    text = str(scan_folder(tmp_path, None))
    assert text.startswith("2 images, about 30 × 24 px, colour, no labels, broken in the sample: 1 of 2 (")
    assert str(summary(images=1, classes=("a",), labelled=1)).startswith(
        "1 image, about 100 × 110 px, colour, 1 class, "
    )


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path, capsys):
    for name in ("[red]", ":smile:"):
        write_picture(tmp_path / name / "1.png")
    print_layout(scan_folder(tmp_path, None).source)
    out = capsys.readouterr().out
    assert "[red]/" in out
    assert ":smile:/" in out


def test_the_sample_is_random_so_that_a_stride_does_not_hide_colour(tmp_path):
    for place in range(1000):
        write_picture(tmp_path / f"{place}.png", size=(4, 4), mode="L" if place % 5 == 0 else "RGB", value=place)
    assert scan_folder(tmp_path, None).channels == 3
    for place in range(0, 1000, 2):
        write_picture(tmp_path / f"{place}.png", size=(4, 4), mode="L", value=place)
    assert scan_folder(tmp_path, None).channels == 3


def test_parts_and_their_classes_are_printed_at_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for part, count in (("Train", 4), ("val", 2), ("Test", 3)):
        for name in ("cat", "dog", "Käfer"):
            for place in range(count):
                write_picture(tmp_path / part / name / f"{place}.png", size=(4, 4))
    (tmp_path / "Train" / "empty").mkdir()
    summary = scan_folder(tmp_path, None)
    print_layout(summary.source)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    cells = [line.split("│")[1:-1] for line in lines if "│" in line]
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["train: Train/", "12", "12"],
        ["held_out: val/", "6", "6"],
        ["test: Test/", "9", "9"],
        ["Käfer", "4", "2", "3"],
        ["cat", "4", "2", "3"],
        ["dog", "4", "2", "3"],
    ]
    assert lines[-1] == "- folders without images left out: Train/empty/"
    assert (summary.test, summary.held_out, summary.rarest) == (9, 6, 4)


def test_paths_are_named_from_the_project():
    assert relative(Path("/a/b/photos"), Path("/a/b/project")) == "../photos"
    assert relative(Path("/a/b"), Path("/c/project")) == "/a/b"


def test_a_relative_path_begins_in_the_real_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "short").symlink_to("deep/er")
    assert relative(tmp_path / "photos", tmp_path / "short" / "project") == "../../../photos"
    assert relative(tmp_path / "short" / ".." / "photos", tmp_path / "project") == "../deep/photos"
    assert relative(Path("~/photos"), tmp_path / "project") == "../photos"


def test_another_version_of_sslpipe_is_said(tmp_path):
    from sslpipe.io.params import Params

    (tmp_path / "params.yaml").write_text("sslpipe: 0.0.1\n")
    with pytest.raises(UserError, match=r"sslpipe: 0\.0\.1 is required, .* is installed"):
        Params(tmp_path / "params.yaml")
