"""Pictures on the page of `sslpipe label`: marks, what is done with the marked and the others, and questions."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from browser import browser, skip_without
from fake_server import FakeServer, Project
from label_tab import ON_SCREEN, cell, done, marked, opened, until, wait

skip_without()


@pytest.fixture(scope="module")
def chrome():
    with browser() as launched:
        yield launched


def test_marks_by_click_range_drag_and_keys(chrome):
    with FakeServer(Project(2, 200, names=["cat", "dog"])) as server, opened(chrome, server, "#group/0") as tab:
        across = tab.evaluate("document.querySelector('.grid').grid.across")
        cell(tab, 2).click()
        cell(tab, 5).click(modifiers=["Shift"])
        assert marked(tab) == [2, 3, 4, 5]
        cell(tab, 3).click()
        assert marked(tab) == [2, 4, 5]
        tab.keyboard.press("Escape")
        boxes = [cell(tab, place).bounding_box() for place in (1, across + 3)]
        middles = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
        tab.mouse.move(*middles[0])
        tab.mouse.down()
        tab.mouse.move(*middles[1], steps=6)
        tab.mouse.up()
        assert marked(tab) == [1, 2, 3, across + 1, across + 2, across + 3]
        tab.keyboard.press("Escape")
        cell(tab, 0).focus()
        for key in ("ArrowRight", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft"):
            tab.keyboard.press(key)
        assert marked(tab) == [1, 2]
        tab.keyboard.press("Escape")
        assert marked(tab) == []
        tab.keyboard.press("Control+a")
        seen = tab.evaluate(ON_SCREEN)
        assert len(marked(tab)) == seen
        assert 20 < seen < 200
        tab.keyboard.press("Escape")
        tab.keyboard.press("End")
        assert tab.evaluate("document.activeElement.dataset.place") == "199"
        tab.keyboard.press("]")
        tab.wait_for_selector("main[data-shown='#group/1']")


def test_touch_marks_by_taps_and_scrolls(chrome):
    with (
        FakeServer(Project(2, 200, names=["cat", "dog"])) as server,
        opened(chrome, server, "#group/0", width=390, height=844, has_touch=True) as tab,
    ):
        cell(tab, 1).tap()
        cell(tab, 4).tap()
        assert marked(tab) == [1, 4]
        assert tab.evaluate("getComputedStyle(document.querySelector('.grid .picture')).touchAction") == "manipulation"


def test_marked_images_move_and_the_others_on_the_screen_are_confirmed(chrome):
    with FakeServer(Project(2, 200, names=["cat", "dog"])) as server:
        server.project.label[4], server.project.how[4] = "dog", "answer"
        with opened(chrome, server, "#group/0") as tab:
            assert tab.locator(".grid [data-image='4'] .of-label").inner_text() == "dog"
            cell(tab, 0).click()
            screen = tab.evaluate(ON_SCREEN)
            until(tab, "[...document.images].every((image) => image.complete)")
            tab.wait_for_timeout(50)
            button = tab.locator("button.main")
            text = f"Label the {screen - 2} pictures on this screen as ‘cat’, but the 1 marked and 1 labelled otherwise"
            assert button.inner_text() == text
            tab.keyboard.press("Control+Enter")
            wait(lambda: len(server.received) == 1)
            assert done(server)[0]["images"] == [i for i in range(0, 2 * screen, 2) if i not in {0, 4}]
            tab.wait_for_selector(".grid [data-image='2'] .of-label.same")
            assert "No picture on this screen" in button.inner_text()
            tab.keyboard.press("m")
            tab.keyboard.type("do")
            assert tab.locator("[role=option][aria-selected=true]").inner_text() == "dog · 1"
            tab.keyboard.press("Enter")
            wait(lambda: len(server.received) == 2)
            assert done(server)[1] == {"do": "move", "images": [0], "group": 1}
            until(tab, "document.querySelector('.grid').grid.images[0] === 2")
            assert tab.evaluate("document.activeElement.dataset.image") == "2"
            tab.keyboard.press("Space")
            tab.keyboard.press("Delete")
            wait(lambda: len(server.received) == 3)
            assert done(server)[2] == {"do": "move", "images": [2], "group": None}
            tab.keyboard.press("Control+z")
            wait(lambda: 2 in server.project.groups[0])
            until(tab, "document.querySelector('.grid').grid.images.includes(2)")


def test_a_picture_that_is_not_loaded_gets_no_label(chrome):
    with FakeServer(Project(1, 30, names=["cat"])) as server:
        picture = server.project.picture
        server.project.picture = lambda image: picture(image) if image != 7 else b""
        with opened(chrome, server, "#group/0", wrong=True) as tab:
            tab.wait_for_selector("text=Label the 29 pictures on this screen as ‘cat’")
            tab.keyboard.press("Control+Enter")
            wait(lambda: [action["images"] for action in done(server)] == [[i for i in range(30) if i != 7]])


def test_moved_images_do_not_come_back_while_the_list_is_fetched(chrome):
    with FakeServer(Project(2, 60, names=["cat", "dog"])) as server, opened(chrome, server, "#group/0") as tab:
        tab.evaluate("""() => {
            window.lengths = new Set();
            const { grid } = document.querySelector('.grid');
            const { replace } = grid;
            grid.replace = (images) => (window.lengths.add(images.length), replace(images));
        }""")
        answer = server.project.group
        server.project.group = lambda word: (time.sleep(0.3), answer(word))[1]
        for place in (0, 5, 9):
            cell(tab, place).click()
            tab.keyboard.press("Delete")
        until(tab, "label.state.version === 4")
        tab.wait_for_timeout(700)
        assert tab.evaluate("[...window.lengths]") == [59, 58, 57]
        tab.keyboard.press("Control+z")
        until(tab, "document.querySelector('.grid').grid.images.length === 58")


def test_a_large_group_has_few_elements(chrome):
    with FakeServer(Project(1, 20_000, names=["cat"])) as server, opened(chrome, server, "#group/0") as tab:
        assert tab.locator(".grid .picture").count() < 400
        tab.keyboard.press("End")
        assert tab.evaluate("document.activeElement.dataset.image") == "19999"
        assert tab.locator(".grid .picture").count() < 400


def test_questions_by_keys_with_a_new_class_and_undo(chrome):
    project = Project(2, 40, names=["cat", "dog"])
    project.asked, project.doubtful = [0, 3, 4, 6, 8, 11, 12, 14, 16, 18, 20], {11: "cat"}
    with FakeServer(project) as server, opened(chrome, server, "#questions") as tab:
        asked = ".picture-of img"
        tab.wait_for_selector(asked)
        answers = [("Enter", "cat"), ("2", "dog")]
        for key, _ in answers:
            tab.keyboard.press(key)
        tab.keyboard.type("do")
        assert tab.locator("[role=option]").all_inner_texts() == ["dog", "new class ‘do’"]
        tab.keyboard.press("Escape")
        tab.keyboard.type("frog")
        assert tab.locator("[role=option][aria-selected=true]").inner_text() == "new class ‘frog’"
        tab.keyboard.press("Enter")
        tab.keyboard.press("3")  # the new class has a key at once
        tab.keyboard.press("Space")
        assert tab.inner_text(".answering h2") == "Is this really ‘cat’?"
        tab.keyboard.press("0")
        wait(lambda: len(server.received) == 6)
        given = [(action["image"], action["label"], action.get("why")) for action in server.received]
        assert given[:4] == [(0, "cat", None), (3, "dog", None), (4, "frog", None), (6, "frog", None)]
        assert given[4:] == [(8, None, "unsure"), (11, None, "none")]
        assert tab.get_attribute(asked, "src") == "image/12"
        tab.keyboard.press("Backspace")
        assert tab.get_attribute(asked, "src") == "image/11"
        wait(lambda: len(server.received) == 7)
        for image in (11, 12, 14, 16, 18, 20):  # more are asked for after the first ten
            tab.wait_for_selector(f"{asked}[src='image/{image}']")
            tab.keyboard.press("1")
        tab.wait_for_selector(".no-question")
        wait(lambda: len(server.received) == 13)
        assert [a["image"] for a in server.received[7:]] == [11, 12, 14, 16, 18, 20]
        tab.wait_for_selector("text=no more questions: all")


def test_a_class_that_is_called_by_a_digit_has_this_digit_as_its_key(chrome):
    project = Project(3, 40, names=["seven", "7", "0"])
    project.asked = [0, 3, 4, 6, 8]
    with FakeServer(project) as server, opened(chrome, server, "#questions") as tab:
        tab.wait_for_selector(".picture-of img")
        assert tab.locator(".classes kbd:not(.enter)").all_inner_texts() == ["7", "0"]
        for pressed in ("7", "0", "1", "."):
            tab.keyboard.press(pressed)
        wait(lambda: len(server.received) == 3)
        assert [(a["label"], a.get("why")) for a in server.received] == [("7", None), ("0", None), (None, "none")]
        assert tab.inner_text("#status") == ""


def test_several_classes_that_fit_are_not_chosen_by_enter(chrome):
    project = Project(3, 40, names=["cat", "catfish", "dog"])
    with FakeServer(project) as server, opened(chrome, server, "#questions") as tab:
        tab.wait_for_selector(".picture-of img")
        tab.keyboard.type("ca")
        tab.keyboard.press("Enter")
        assert "2 fit" in tab.inner_text(".suggestions .hint")
        tab.keyboard.type("t")
        assert tab.locator("[role=option][aria-selected=true]").inner_text() == "cat"
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("Enter")
        wait(lambda: [a["label"] for a in server.received] == ["catfish"])
