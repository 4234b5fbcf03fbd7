import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.io.errors import UserError
from sslpipe.tools.repeats import OWN, _error_line, numbers, plan, prepare_folder, read_settings

PARAMS = {"seed": 5, "prepare": {"size": 8, "labelled": {"per_class": 4}}, "cluster": {"scan": {"heads": 2}}}


@pytest.fixture
def project(tmp_path):
    for name in ("stages", "data/images", "runs/prepare", ".dvc", ".venv", ".sslpipe"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("dvc.lock", ".dvcignore", "notes.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    write_params(tmp_path, PARAMS)
    return tmp_path


def write_params(project, tree):
    (project / "params.yaml").write_text(yaml.safe_dump(tree))


def prepared(project, *, assignments=(), seeds=(0,), folds=(0,)):
    """The folder of the last combination."""
    params = read_settings(project, folds=folds, assignments=assignments)
    repeats = plan(project, name="n", seeds=seeds, folds=folds)
    for repeat in repeats:
        prepare_folder(project, repeat, params, project / ".dvc" / "cache")
    return repeats[-1].folder


def settings_in(folder):
    return yaml.safe_load((folder / "params.yaml").read_text())


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True), st.sampled_from([",", ", ", " ,"]))
def test_reads_numbers_in_their_order(values, comma):
    assert numbers("--seeds", comma.join(map(str, values))) == tuple(values)


@pytest.mark.parametrize("text", ["", "a", "0,", "0;1", "-1", "1.5", "0 1", "²", "0,1,0", "1,01"])
def test_other_lists_are_one_line(text):
    with pytest.raises(UserError, match=r"--seeds: .*expected [^\n]*$"):
        numbers("--seeds", text)


def test_a_seeds_folds_come_in_a_row(tmp_path):
    repeats = plan(tmp_path, name="n", seeds=[3, 1], folds=[0, 2])
    assert [(repeat.seed, repeat.fold) for repeat in repeats] == [(3, 0), (3, 2), (1, 0), (1, 2)]
    assert repeats[1].folder == tmp_path / ".sslpipe/repeats/n/seed3-fold2"
    assert str(repeats[1]) == "seed 3, fold 2"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../n", "/n", "n/"])
def test_a_name_is_no_path(tmp_path, name):
    with pytest.raises(UserError, match="--name: "):
        plan(tmp_path, name=name, seeds=[0], folds=[0])


def test_a_folder_links_all_but_its_own(project):
    folder = prepared(project)
    links = {path.name: path.readlink() for path in folder.iterdir() if path.is_symlink()}
    assert links == {name: project / name for name in ("stages", "data", ".dvcignore", "notes.txt")}
    assert (folder / "data" / "images").is_dir()
    assert yaml.safe_load((folder / "dvc.yaml").read_text()) == {"stages": {}}
    assert list((folder / "runs").iterdir()) == []
    assert {path.name for path in folder.iterdir()} - set(links) == OWN & {"runs", "dvc.yaml", "params.yaml", ".dvc"}
    config = (folder / ".dvc" / "config").read_text()
    assert "no_scm = true" in config
    assert f"dir = {project / '.dvc' / 'cache'}\n" in config


def test_a_folder_is_brought_up_to_date_and_keeps_what_it_has_reached(project):
    folder = prepared(project)
    (folder / "dvc.lock").write_text("reached")
    (folder / "runs" / "prepare").mkdir()
    (project / "notes.txt").rename(project / "renamed.txt")
    (project / "dvc.yaml").write_text("stages: {other: {cmd: ls}}")
    (folder / "stages").unlink()
    (folder / "stages").symlink_to(project / "elsewhere")
    assert prepared(project) == folder
    assert not (folder / "notes.txt").is_symlink()
    assert (folder / "renamed.txt").readlink() == project / "renamed.txt"
    assert (folder / "stages").readlink() == project / "stages"
    assert yaml.safe_load((folder / "dvc.yaml").read_text()) == {"stages": {"other": {"cmd": "ls"}}}
    assert (folder / "dvc.lock").read_text() == "reached"
    assert (folder / "runs" / "prepare").is_dir()


def test_settings_are_the_projects_with_seed_fold_and_assignments(project, capsys):
    folder = prepared(
        project, seeds=(1, 2), folds=(0, 3), assignments=["cluster.scan.heads=7", "prepare.labelled.per_class=1"]
    )
    found = settings_in(folder)
    assert found == {
        "seed": 2,
        "prepare": {"size": 8, "labelled": {"per_class": 1, "fold": 3}},
        "cluster": {"scan": {"heads": 7}},
    }
    assert list(found) == list(yaml.safe_load((project / "params.yaml").read_text()))
    assert settings_in(folder.parent / "seed1-fold0")["prepare"]["labelled"]["fold"] == 0
    assert settings_in(project) == PARAMS
    said = capsys.readouterr().out
    assert said.count("cluster.scan.heads = 7") == 1  # once, not for each run


@pytest.mark.parametrize("prepare", [None, {"size": 8}, {"labelled": None}])
def test_all_labels_have_no_folds(project, prepare):
    write_params(project, {**PARAMS, "prepare": prepare})
    assert settings_in(prepared(project, seeds=(4,))) == {**PARAMS, "prepare": prepare, "seed": 4}
    with pytest.raises(UserError, match="--folds: '0,1' found, expected 0"):
        prepared(project, folds=(0, 1))


def test_an_assignment_may_take_the_labels_setting_away(project):
    with pytest.raises(UserError, match="--folds"):
        prepared(project, folds=(1,), assignments=["prepare.labelled=null"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("clustr.heads=1", "--set clustr.heads=1: unknown key 'clustr'; did you mean 'cluster'"),
        ("heads", "--set heads: expected key=value"),
        ("seed=3", "'seed' is set by --seeds"),
        ("prepare.labelled.fold=1", "'prepare.labelled.fold' is set by --folds"),
        ("prepare.labelled=4", "prepare.labelled: 4 found"),
    ],
)
def test_assignments_that_cannot_be_meant(project, assignment, message):
    with pytest.raises(UserError, match=message):
        read_settings(project, folds=[0], assignments=[assignment])


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("error: a\nerror: prepare.size: b\nERROR: failed to run\n\n", "prepare.size: b"),
        ("Traceback\nValueError: x\nERROR: failed to run: c\nhint", "failed to run: c"),
        ("killed\n\n", "killed"),
        ("", "no output"),
    ],
)
def test_the_line_that_says_what_went_wrong(output, line):
    assert _error_line(output) == line


def test_images_beside_the_project_are_found_from_every_folder(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "photos").mkdir()
    stage = {"cmd": "true", "deps": ["../photos", "code.py"], "outs": ["runs/prepare"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": stage}}))
    (project / "params.yaml").write_text("prepare: {source: folder, folder: {path: ../photos, labels: null}}\n")
    (repeat,) = plan(project, name="default", seeds=[1], folds=[0])
    prepare_folder(project, repeat, read_settings(project, folds=[0], assignments=[]), tmp_path / "cache")
    params = yaml.safe_load((repeat.folder / "params.yaml").read_text())
    assert params["prepare"]["folder"] == {"path": str(tmp_path / "photos"), "labels": None}
    deps = yaml.safe_load((repeat.folder / "dvc.yaml").read_text())["stages"]["prepare"]["deps"]
    assert deps == [str(tmp_path / "photos"), "code.py"]
