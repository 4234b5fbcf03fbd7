"""The page of `sslpipe label` in Chromium, against a server in memory: names, what is saved, and how it looks."""

import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from browser import browser, skip_without
from example import HOSTILE
from fake_server import FakeServer, Project
from label_tab import cell, done, go, marked, opened, until, wait

from sslpipe.labelling.page_files import SCRIPTS, STYLES, assets, page

skip_without()

NAMES = ["cat", "dog", "ship", "frog", "bird", "deer", "car", "truck", "horse", "plane"]
VIEWS = ["#groups", "#group/0", "#group/aside", "#questions", "#run"]


@pytest.fixture(scope="module")
def chrome():
    with browser() as launched:
        yield launched


def test_the_page_loads_what_is_served_and_nothing_else():
    html = page("<title> {{ 7 }}")
    assert "<title>&lt;title&gt; {{ 7 }}</title>" in html
    assert set(STYLES) | set(SCRIPTS) | {"icon.svg"} == set(assets())
    assert all(path.is_file() and f"assets/{name}" in html for name, path in assets().items())
    assert "http" not in html
    assert "style=" not in html


def test_ten_groups_get_their_names_by_keys_alone(chrome):
    with FakeServer(Project()) as server, opened(chrome, server) as tab:
        keys = 0
        for name in NAMES:
            for key in [*name, "Enter"]:
                tab.keyboard.press(key)
                keys += 1
        assert keys == sum(map(len, NAMES)) + len(NAMES)  # a name and Enter for each group, nothing else
        wait(lambda: len(server.received) == 10)
        assert done(server) == [{"do": "name", "group": g, "name": name} for g, name in enumerate(NAMES)]
        until(tab, "document.querySelector('#saved').textContent === 'saved'")
        assert "10 with a name" in tab.inner_text("main .hint >> nth=0")
        tab.keyboard.press("Shift+Enter")
        assert tab.evaluate("document.activeElement.value") == NAMES[8]
        tab.keyboard.press("ArrowUp")
        assert tab.evaluate("document.activeElement.value") == NAMES[7]
        tab.keyboard.press("Control+z")
        until(tab, "document.querySelector('[data-name-of=\"9\"]').value === ''")
        assert tab.get_attribute("#undo", "title") == "Undo: name horse (Ctrl+Z)"


def test_a_half_typed_name_the_focus_and_marks_stay_when_another_tab_answers(chrome):
    with FakeServer(Project()) as server, opened(chrome, server) as tab:
        tab.keyboard.type("fr")
        server.project.act({"id": "x", "do": "name", "group": 4, "name": "deer"})
        server.project.act({"id": "y", "do": "name", "group": 0, "name": "cat"})
        server.project.pages = 2
        until(tab, "document.querySelector('[data-name-of=\"4\"]').value === 'deer'")
        assert tab.evaluate("document.activeElement.dataset.nameOf") == "0"
        assert tab.evaluate("document.activeElement.value") == "fr"
        assert tab.inner_text("#tabs") == "This project is open in 2 tabs; each shows the others' answers."
        tab.keyboard.press("Escape")
        go(tab, server, "#group/4")
        cell(tab, 2).click()
        image = cell(tab, 2).get_attribute("data-image")
        server.project.act({"id": "z", "do": "move", "images": [4], "group": None})
        until(tab, "document.querySelectorAll('.grid [data-image=\"4\"]').length === 0")
        assert marked(tab) == [1]
        assert tab.evaluate("document.activeElement.dataset.image") == image


def test_groups_merge_and_split(chrome):
    with FakeServer(Project(3)) as server, opened(chrome, server) as tab:
        card = tab.locator("[data-group='0']")
        card.locator("select").focus()
        card.locator("select").select_option("2")
        assert server.received == []  # a choice by arrow keys is none yet
        card.get_by_role("button", name="Merge").click()
        until(tab, "document.querySelectorAll('.card').length === 2")
        assert tab.inner_text("#status") == "merged into group 2 + 0"
        tab.locator("[data-group='1']").get_by_role("button", name="Split").click()
        until(tab, "document.querySelectorAll('.card').length === 3")
        assert done(server) == [{"do": "merge", "group": 0, "into": 2}, {"do": "split", "group": 1}]


def test_a_class_gets_another_name_everywhere(chrome):
    with FakeServer(Project(3, names=["caat", "caat"])) as server, opened(chrome, server) as tab:
        tab.locator("summary").click()
        tab.locator("details input").fill("cat")
        tab.keyboard.press("Enter")
        wait(lambda: done(server) == [{"do": "rename", "class": "caat", "to": "cat"}])
        until(tab, "document.querySelector('[data-name-of=\"1\"]').value === 'cat'")


def test_what_is_not_saved_is_sent_again_once_and_in_order(chrome):
    with FakeServer(Project()) as server, opened(chrome, server, wrong=True) as tab:
        server.fail = [507] * 20
        for name in NAMES[:3]:
            tab.keyboard.type(name)
            tab.keyboard.press("Enter")
        until(
            tab, "/^not saved: .*no space left.*; 3 answers wait$/.test(document.querySelector('#trouble').innerText)"
        )
        assert tab.inner_text("#saved") == "not saved"
        server.fail = ["before", "after"]
        assert tab.locator(".name").nth(1).input_value() == "dog"  # shown although not saved
        wait(lambda: len(server.project.actions) == 3, 8)
        until(tab, "document.querySelector('#saved').textContent === 'saved'")
        assert not tab.locator("#trouble").is_visible()
        assert [a["name"] for a in server.project.actions] == NAMES[:3]
        ids = [action["id"] for action in server.received]
        assert ids == [ids[0]] * (len(ids) - 2) + ids[-2:]
        assert len(set(ids)) == 3


def test_an_action_that_is_refused_is_dropped_and_said(chrome):
    with FakeServer(Project()) as server, opened(chrome, server, wrong=True) as tab:
        tab.keyboard.type("unknown")
        tab.keyboard.press("Enter")
        tab.keyboard.type("dog")
        tab.keyboard.press("Enter")
        wait(lambda: len(server.received) == 2)
        until(tab, "document.querySelector('[data-name-of=\"0\"]').value === ''")
        assert server.project.name[1] == "dog"
        go(tab, server, "#questions")
        tab.wait_for_selector(".picture-of img")
        project = server.project
        project.act = lambda action: (_ for _ in ()).throw(ValueError("name: it means that there is no label"))
        tab.keyboard.press("1")
        until(tab, "document.querySelector('#status').innerText.includes('means that there is no label')")
        assert tab.get_attribute(".picture-of img", "src") == "image/0"  # asked again


def test_a_reload_sends_what_waits(chrome):
    with FakeServer(Project()) as server, opened(chrome, server, wrong=True) as tab:
        server.down = True
        tab.keyboard.type("cat")
        tab.keyboard.press("Enter")
        tab.keyboard.type("dog")
        tab.keyboard.press("Enter")
        line = "The server does not answer; start `sslpipe label` again. 2 answers wait."
        until(tab, f"document.querySelector('#trouble').innerText === {line!r}")
        server.down = False
        asked = []
        tab.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        server.fail = [503]  # at the latest now a try is under way
        tab.reload()
        wait(lambda: len(server.project.actions) == 2)
        assert [a["name"] for a in server.project.actions] == ["cat", "dog"]
        until(tab, "document.querySelector('#saved').textContent === 'saved'")
        assert asked in ([], ["beforeunload"])
        assert tab.evaluate("Object.entries(sessionStorage).filter(([key]) => /waiting/.test(key))[0][1]") == "[]"


def test_hostile_names_do_nothing_but_show(chrome):
    names = [name for name in HOSTILE if "\udce9" not in name]
    project = Project(len(names), 40, names=names, title=names[0])
    project.notes = [names[1]]
    project.label = {i: names[(i + 1) % len(names)] for i in range(0, 200)}
    project.asked = range(200, 300)
    with FakeServer(project) as server, opened(chrome, server, width=390, height=844) as tab:
        for view in VIEWS:
            go(tab, server, view)
            tab.wait_for_timeout(100)
            assert tab.locator("main script, main iframe, [onerror], [src=x]").count() == 0
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390, view
            assert tab.inner_text("#title") == names[0]
        go(tab, server, "#groups")
        server.received.clear()
        for field in tab.locator("input.name").all():
            field.focus()
        tab.locator("#help").focus()
        tab.wait_for_timeout(50)
        assert server.received == []  # a name that a field cannot hold is not taken for a change
        assert tab.locator("input.name").first.input_value() == names[0]


def full():
    project = Project(10, 60, names=["cat", "dog", "", "a name of some length that goes on and on"])
    project.aside = [7, 17]
    project.notes = ["2 rows of labels.csv name images that are not there: left out"]
    result = {"answers": 0, "accuracy": 0.41, "deviation": 0.05, "count": 40, "source": "runs/semisup/propagation"}
    project.results = [result, {**result, "answers": 34, "accuracy": 0.58}]
    rows = [{"from": "cat", "to": "dog", "count": 20, "images": list(range(20))}]
    project.change.update(after="runs/semisup/propagation", changed=20, rows=rows, note=None)
    for image in (0, 10, 20):
        project.put(image, 0, "confirm")
    project.label[30] = "dog"
    return project


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_no_serious_violation_of_accessibility(chrome, scheme, width):
    found = {}
    with FakeServer(full()) as server, opened(chrome, server, width=width, color_scheme=scheme) as tab:
        options = {"preload": False, "resultTypes": ["violations"]}
        options |= {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
        options |= {"runOnly": ["target-size", "scrollable-region-focusable"]} if width == 390 else {}
        few = ["#groups", "#group/0", "#questions"]
        for view in [*(VIEWS if (scheme, width) == ("light", 1280) else few), "keys", "marked"]:
            go(tab, server, view if view.startswith("#") else "#group/0")
            if view == "keys":
                tab.locator("#help").click()
            if view == "marked":
                tab.keyboard.press("Escape")
                cell(tab, 2).click()
                tab.keyboard.press("m")
            tab.wait_for_timeout(50)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, view
            violations = Axe().run(tab, options=options).response["violations"]
            found[view] = [
                (v["id"], v["nodes"][0]["html"][:200]) for v in violations if v["impact"] in {"serious", "critical"}
            ]
    assert not {view: violations for view, violations in found.items() if violations}


def test_the_run_shows_its_lines_results_and_changes(chrome):
    with FakeServer(full()) as server, opened(chrome, server, "#run") as tab:
        assert tab.inner_text("#progress") == "4 labels · held-out accuracy 0.41 → 0.58 ± 0.05"
        tab.get_by_role("button", name="Learn from the labels").click()
        tab.wait_for_selector("pre:has-text('propagation')")
        tab.get_by_role("button", name="Stop").click()
        tab.wait_for_selector("text=stopped after 3 s")
        assert tab.locator("tbody tr").count() == 2
        assert "20 images: cat → dog" in tab.inner_text(".changes")
        server.project.run_state |= {"can": False, "why": "dvc.yaml is not there"}
        server.project.version += 1
        tab.wait_for_selector("text=dvc.yaml is not there")
        assert tab.get_by_role("button", name="Learn from the labels").is_disabled()


def test_keys_that_are_typed_are_no_commands(chrome):
    with FakeServer(full()) as server, opened(chrome, server, "#group/2") as tab:
        tab.keyboard.type("g q?[m ")
        assert tab.evaluate("location.hash") == "#group/2"
        assert tab.evaluate("document.activeElement.value") == "g q?[m "
        tab.keyboard.press("Control+a")
        tab.keyboard.press("Delete")
        assert server.received == []
        assert marked(tab) == []
