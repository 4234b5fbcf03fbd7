"""The report in Chromium, opened from disk with the network off: what one clicks, types and reads."""

import base64
import json
import math
import shutil
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser, go, opened, skip_without
from example import HOSTILE, example, gradients, write_example

from sslpipe.reporting.page import write_single

skip_without()

PAGES = ["groups", "groups/cluster/prototypes", "groups/cluster/3", "map", "scores", "doubts", "training", "about"]
CLASSES = ["airplane", "cat", "dog", "frog", "ship"]
SURE = "report.models.get('model-0').confidence"


@pytest.fixture(scope="module")
def chrome():
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("labelled"), *example(600, 5, classes=CLASSES), gradients(600))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    names = [""] * 300
    return write_example(tmp_path_factory.mktemp("unlabelled"), *example(300, 5, names=names), gradients(300))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """File names and classes of HOSTILE, with the files that a disk can hold."""
    folder = tmp_path_factory.mktemp("hostile")
    count = 10 * len(HOSTILE)
    summary, parts = example(
        count, len(HOSTILE), classes=HOSTILE, names=[HOSTILE[i % len(HOSTILE)] for i in range(count)]
    )
    for number, name in enumerate(HOSTILE):
        if len(name) < 200:
            path = folder / "originals" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (100 + number, 20)).save(path, "PNG")
    return write_example(folder, summary | {"title": HOSTILE[0], "originals": "originals/"}, parts, gradients(count))


def shown(name):
    """A name as the page shows it: what is unseen or turns the text around it as an escape."""
    unseen = {code: f"\\u{code:04x}" for code in (9, 0x2028, 0x202E, 0xDCE9, 0xDCFF)}
    return name.translate(unseen | {10: "\\n"})


def test_pages_open_without_network_and_without_errors(chrome, labelled, unlabelled):
    for index in (labelled, unlabelled):
        with opened(chrome, index) as tab:
            for page in PAGES:
                go(tab, index, f"#{page}")
                assert tab.locator("h1").count() == 1
                assert tab.locator(".wrong").count() == 0
                assert tab.locator("main section:not(:has(:nth-child(2)))").count() == 0  # a heading alone
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_is_wider_than_a_telephone(chrome, hostile):
    with opened(chrome, hostile, width=390, height=844) as tab:
        for page in PAGES:
            go(tab, hostile, f"#{page}")
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390, page


def test_merged_groups_name_what_they_consist_of(chrome, tmp_path):
    summary, parts = example(60, 3)
    summary["models"][0]["own"] = 14
    merged = [[[2, 1200], [0, 1]], [[5, 0]], [[i, 9] for i in range(10)]]
    for group, own in zip(parts["model-0"]["groups"], merged, strict=True):
        group["parts"] = own
    index = write_example(tmp_path, summary, parts, gradients(60))
    expected = {
        0: "Merged from 2 groups: 2 (1,200 images), 0 (1)",
        1: "Merged from 1 group: 5 (0 images)",
        2: "Merged from 10 groups: 0 (9 images), 1 (9), 2 (9), 3 (9), 4 (9), 5 (9), 6 (9), 7 (9) and 2 more",
    }
    with opened(chrome, index, width=390, height=844) as tab:
        for page in ("#groups", "#groups/cluster/prototypes"):
            go(tab, index, page)
            assert "They are merged from its own 14 (report.groups)." in tab.inner_text("main")
            found = [text.replace("\u00a0", " ") for text in tab.locator(".parts").all_inner_texts()]
            assert sorted(found) == sorted(expected.values())
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        go(tab, index, "#groups/cluster/2")
        assert tab.inner_text(".parts").replace("\u00a0", " ") == expected[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_violation_of_accessibility(chrome, labelled, scheme):
    found = {}
    with opened(chrome, labelled, color_scheme=scheme) as tab:
        # In the dark, colours alone differ.
        options = {"preload": False, "resultTypes": ["violations"]}
        options |= {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
        pages = PAGES if scheme == "light" else ["groups", "map", "scores", "doubts"]
        for page in [*pages, "image"]:
            go(tab, labelled, f"#{page if page != 'image' else 'groups'}")
            if page == "image":
                tab.locator(".picture").first.click()
                tab.wait_for_selector("#image .neighbors .picture")
            violations = Axe().run(tab, options=options).response["violations"]
            found[page] = [
                (v["id"], v["nodes"][0]["html"][:200]) for v in violations if v["impact"] in {"serious", "critical"}
            ]
    assert not {page: violations for page, violations in found.items() if violations}


def test_hostile_names_do_nothing_but_show(chrome, hostile):
    with opened(chrome, hostile, "#groups") as tab:
        assert tab.title() == f"Groups · {HOSTILE[0]}"
        assert tab.inner_text("#title") == HOSTILE[0]
        titles = set(tab.locator(".card h2 bdi").all_inner_texts())
        assert titles == {shown(name) for name in HOSTILE}
        for page in PAGES:
            go(tab, hostile, f"#{page}")
            tab.wait_for_selector("h1")
            assert tab.locator("main script, main iframe, [onerror], [src=x]").count() == 0


def test_originals_are_found_by_their_names(chrome, hostile):
    with opened(chrome, hostile) as tab:
        for number, name in enumerate(HOSTILE):
            if len(name) < 200:
                tab.evaluate(f"void report.open({number})")
                tab.wait_for_function("() => document.querySelector('#image .large img')?.naturalWidth > 0")
                assert tab.evaluate("document.querySelector('#image .large img').naturalWidth") == 100 + number
                assert tab.inner_text("#image-name") == shown(name)


def test_scripts_in_the_markup_do_not_run(chrome, labelled):
    with opened(chrome, labelled, error="Content Security Policy") as tab:
        title = tab.title()
        tab.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'ran'";
            document.body.append(script);
        }""")
        assert tab.title() == title


def test_an_image_shows_what_the_models_say(chrome, labelled):
    _, parts = example(600, 5, classes=CLASSES)
    sure = np.frombuffer(base64.b64decode(parts["model-0"]["confidence"]), np.uint8).astype(int)
    group = np.frombuffer(base64.b64decode(parts["model-0"]["group"]), "<u2")
    image = parts["model-0"]["groups"][2]["prototypes"][4]
    with opened(chrome, labelled, "#groups/cluster/2") as tab:
        tab.locator(f"[data-image='{image}']").first.click()
        tab.wait_for_selector("#image .answers tbody tr")
        cells = tab.locator("#image .answers tbody tr").first.locator("th, td").all_inner_texts()
        assert cells[0] == "cluster"
        assert cells[1].startswith(CLASSES[group[image]])
        assert cells[2] == f"{100 * sure[image] / 255:.0f}\u00a0%"
        assert tab.inner_text("#image-name") == f"folder {image % 7}/image-{image:05d}.jpg"
        assert tab.inner_text("#image .turning").split("\n")[1] == "5 of 24"


def test_pictures_are_cut_from_their_place_in_the_sheet(chrome, labelled):
    summary, _ = example(600, 5, classes=CLASSES)
    pictures = gradients(600)
    first = summary["pictures"]["first"]
    other = next(image for image in range(430, 600) if image not in first)
    with opened(chrome, labelled, "#groups/cluster/2") as tab:
        for image in (first[40], other):
            tab.evaluate(f"new Promise((done) => (window.looked = report.thumb({image}, done)))")
            tab.evaluate("void document.querySelector('main').replaceChildren(window.looked)")
            shot = Image.open(BytesIO(tab.locator("main canvas").screenshot())).convert("RGB")
            middle = np.asarray(shot).astype(int)[shot.height // 2, shot.width // 2]
            assert np.abs(middle - pictures[image, 32, 32].astype(int)).max() <= 12


def test_neighbours_lead_on_and_escape_closes(chrome, labelled):
    with opened(chrome, labelled) as tab:
        first = tab.locator(".card .picture").first
        first.focus()
        tab.keyboard.press("Enter")
        name = tab.inner_text("#image-name")
        tab.locator("#image .neighbors .picture").first.click()
        tab.wait_for_function(f"() => document.querySelector('#image-name').innerText !== {json.dumps(name)}")
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#image .turning").split("\n")[1] == "2 of 8"
        tab.keyboard.press("Escape")
        assert not tab.locator("#image").is_visible()
        assert first.evaluate("element => element === document.activeElement")


def test_everything_is_reached_by_keyboard(chrome, labelled):
    with opened(chrome, labelled) as tab:
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"
        stops = []
        focused = (
            "(({ textContent, ariaLabel, tagName }) => textContent || ariaLabel || tagName)(document.activeElement)"
        )
        for _ in range(40):
            tab.keyboard.press("Tab")
            stops.append(tab.evaluate(focused))
        for wanted in ("Groups", "Map", "Scores", "Doubts", "Training", "About", "Prototypes"):
            assert wanted in stops
        assert [stop for stop in stops if "group " in stop]
        cards = tab.locator(".card .grid").first
        cards.locator("[tabindex='0']").focus()
        places = []
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "Home", "End", "ArrowRight"):
            tab.keyboard.press(key)
            places.append(tab.evaluate("document.activeElement.dataset.place"))
        assert places == ["1", "7", "6", "0", "11", "11"]
        assert cards.locator("[tabindex='0']").count() == 1


def test_all_images_of_a_group_are_filtered_and_few_are_on_the_page(chrome, tmp_path):
    summary, parts = example(2000, 2, classes=["a", "b"])
    sure = np.frombuffer(base64.b64decode(parts["model-0"]["confidence"]), np.uint8).copy()
    sure[:40] = 255  # the bound of 100 % leaves out none
    parts["model-0"]["confidence"] = base64.b64encode(sure.tobytes()).decode()
    index = write_example(tmp_path, summary, parts, gradients(2000))
    with opened(chrome, index, "#groups/cluster/1") as tab:
        found = tab.locator("section", has=tab.locator("h2", has_text="All images"))
        members = "report.members(report.models.get('model-0'), 1)"
        differs = "report.images.label[i] !== 1"
        size = tab.evaluate(f"{members}.length")
        assert f"All {size:,} images" in found.inner_text()
        assert found.locator(".picture").count() < 700
        found.locator(".grid").evaluate("grid => grid.scrollIntoView()")
        found.locator(".picture").first.focus()
        tab.keyboard.press("End")
        assert tab.evaluate("Number(document.activeElement.dataset.place)") == size - 1
        found.get_by_label("Label").select_option("differs")
        wrong = tab.evaluate(f"{members}.filter((i) => {differs}).length")
        assert f"{wrong} of {size:,} images" in found.inner_text()
        found.get_by_label("Split").select_option("2")
        found.locator("input[type=range]").fill("50")
        least = f"{members}.filter((i) => {differs} && report.images.split[i] === 2 && {SURE}[i] <= 127.5).length"
        assert f"{tab.evaluate(least)} of {size:,} images" in found.inner_text()


def on_map(tab, image):
    """Place of an image's point in the window."""
    box = tab.locator(".map-frame canvas[role]").bounding_box()
    x, y = tab.evaluate(f"report.openMap.points.toScreen({image}).map((value) => value / report.openMap.points.ratio)")
    return box["x"] + x, box["y"] + y


def drawn(tab):
    tab.wait_for_function("() => Number(document.querySelector('.map-frame canvas[role]')?.dataset.drawn) > 0")


def test_pointing_shows_the_picture_and_a_click_the_image(chrome, labelled):
    with opened(chrome, labelled, "#map") as tab:
        drawn(tab)
        tab.mouse.move(*on_map(tab, 44))
        image = int(tab.get_attribute(".tip", "data-image"))
        near = math.dist(on_map(tab, 44), on_map(tab, image))
        assert near <= 10  # another point may be as near
        assert f"image-{image:05d}.jpg" in tab.inner_text(".tip")
        tab.mouse.down()
        tab.mouse.up()
        tab.wait_for_selector("#image[open]")
        assert f"image-{image:05d}.jpg" in tab.inner_text("#image-name")


def lasso(tab, corners):
    box = tab.locator(".map-frame canvas[role]").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    tab.keyboard.down("Shift")
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=3)
    tab.mouse.up()
    tab.keyboard.up("Shift")
    tab.wait_for_selector(".selection")


def test_the_lasso_lists_what_is_inside(chrome, hostile, tmp_path):
    with opened(chrome, hostile, "#map", reduced_motion="reduce") as tab:
        drawn(tab)
        lasso(tab, [(0.02, 0.02), (0.98, 0.02), (0.98, 0.55), (0.02, 0.55)])
        inside = tab.evaluate("""() => {
            const { points } = report.openMap;
            return [...Array(points.count).keys()].filter((i) => points.toScreen(i)[1] <= 0.55 * points.canvas.height);
        }""")
        heading = tab.inner_text(".selection h2")
        assert 0 < len(inside) < 120
        assert heading == f"In the lasso ({len(inside)} images)"
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Save as text").click()
        download.value.save_as(tmp_path / "images.txt")
        lines = (tmp_path / "images.txt").read_bytes().decode().rstrip("\n").split("\n")
        expected = [HOSTILE[i % len(HOSTILE)] for i in inside]
        expected = [json.dumps(n, ensure_ascii=False) if {"\n", "\t", "\u2028"} & set(n) else n for n in expected]
        assert lines == [name.translate({0xDCE9: "\ufffd", 0xDCFF: "\ufffd"}) for name in expected]
        tab.evaluate("scrollTo(0, 0)")
        lasso(tab, [(0.02, 0.6), (0.98, 0.6), (0.98, 0.98), (0.02, 0.98)])  # a second one begins anew
        assert tab.inner_text(".selection h2") not in {heading, "In the lasso (0 images)"}
        tab.get_by_role("button", name="Clear").click()
        assert tab.locator(".selection").count() == 0


def test_a_lasso_of_any_shape_holds_what_the_browser_says(chrome, labelled):
    with opened(chrome, labelled, "#map") as tab:
        drawn(tab)
        found, expected = tab.evaluate("""() => {
            const { points } = report.openMap;
            const { width, height } = points.canvas;
            const corner = (turn) => [width * (0.5 + 0.45 * Math.sin(turn)), height * (0.5 + 0.45 * Math.cos(turn))];
            const star = [0, 2, 4, 1, 3].map((k) => corner(2 * Math.PI * k / 5));
            const path = new Path2D();
            star.forEach((corner) => path.lineTo(...corner));
            const context = document.createElement("canvas").getContext("2d");
            const inside = (i) => context.isPointInPath(path, ...points.toScreen(i), "evenodd");
            return [points.inside(star), [...Array(points.count).keys()].filter(inside)];
        }""")
    assert found == expected
    assert 10 < len(found) < 590


def test_the_map_is_moved_by_keys_wheel_drag_and_two_fingers(chrome, labelled):
    view = "(({ zoom, cx, cy }) => [zoom, cx, cy])(report.openMap.points)"
    with opened(chrome, labelled, "#map") as tab:
        drawn(tab)
        canvas = tab.locator(".map-frame canvas[role]")
        canvas.focus()
        tab.keyboard.press("+")
        assert tab.evaluate(view)[0] == pytest.approx(1.4)
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate(view)[1] > 32768
        assert tab.inner_text("#status").startswith("In the middle: ")
        tab.keyboard.press("0")
        assert tab.evaluate(view) == [1, 32768, 32768]
        x, y = on_map(tab, 10)
        tab.mouse.move(x, y)
        tab.mouse.wheel(0, -300)
        tab.wait_for_function("() => report.openMap.points.zoom > 1.5")
        assert on_map(tab, 10) == pytest.approx((x, y), abs=1)  # what is under the pointer stays there
        box = canvas.bounding_box()
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        before = on_map(tab, 10)
        tab.mouse.move(*middle)
        tab.mouse.down()
        tab.mouse.move(middle[0] + 50, middle[1] + 30, steps=5)
        tab.mouse.up()
        assert on_map(tab, 10) == pytest.approx((before[0] + 50, before[1] + 30), abs=1)
        zoom = tab.evaluate(view)[0]
        tab.evaluate(
            """([x, y]) => {
            const canvas = document.querySelector(".map-frame canvas[role]");
            canvas.setPointerCapture = () => {};
            const send = (type, id, dx) => canvas.dispatchEvent(new PointerEvent(type,
                { pointerId: id, clientX: x + dx, clientY: y, button: 0, pointerType: "touch", bubbles: true }));
            send("pointerdown", 11, -50); send("pointerdown", 12, 50);
            send("pointermove", 11, -100); send("pointermove", 12, 100);
            send("pointerup", 11, -100); send("pointerup", 12, 100);
        }""",
            list(middle),
        )
        assert tab.evaluate(view)[0] == pytest.approx(2 * zoom)
        canvas.focus()
        tab.keyboard.press("Enter")
        assert tab.locator("#image").is_visible()


def test_the_legend_shows_one_group_alone(chrome, labelled):
    with opened(chrome, labelled, "#map") as tab:
        drawn(tab)
        tab.get_by_role("button", name="frog").click()
        count = tab.evaluate("report.openMap.points.lit.reduce((sum, value) => sum + value, 0)")
        assert f"{count}" in tab.get_by_role("button", name="frog").inner_text()
        tab.get_by_role("button", name="List what is in view").click()
        assert f"({count} images)" in tab.inner_text(".selection h2")
        assert "highlighted in the legend" in tab.inner_text(".selection")
        for kind in ("class", "confidence", "split"):
            tab.get_by_label("Colour").select_option(kind)
            assert tab.inner_text(".legend h2") in {"Label", "Confidence", "Split"}


def test_a_cell_of_the_confusion_lists_its_images(chrome, labelled):
    counts = example(600, 5, classes=CLASSES)[1]["model-0"]["confusion"]["counts"]
    with opened(chrome, labelled, "#scores") as tab:
        for row, column in ((1, 1), *[(r, c) for r in range(5) for c in range(5) if r != c and counts[r][c]][:2]):
            tab.locator(f".matrix [data-row='{row}'][data-column='{column}']").click()
            images = f"{counts[row][column]} image{'s' * (counts[row][column] != 1)}"
            assert tab.inner_text(".selection h2") == f"{CLASSES[row]} as {CLASSES[column]} ({images})"
            assert tab.locator(".selection .hint").count() == 1  # beside the buttons; no note that numbers differ
        tab.locator(".matrix button[tabindex='0']").focus()
        tab.keyboard.press("ArrowRight")
        second = next(column for column in range(1, 5) if counts[0][column])
        assert tab.evaluate("[document.activeElement.dataset.row, document.activeElement.dataset.column]") == [
            "0",
            str(second),
        ]


def test_a_group_of_mostly_another_class_says_so(chrome, tmp_path):
    summary, parts = example(200, 4, classes=list("abcd"))
    first, second, third, fourth = parts["model-0"]["groups"]
    first |= {"name": "b", "mix": [[0, 0.62], [1, 0.2], [2, 0.18]], "known": first["size"]}
    second |= {"mix": [[1, 1]], "known": 7}
    third |= {"mix": [], "known": 0}
    fourth |= {"name": None}
    parts["model-1"]["groups"][0] |= {"mix": [[3, 0.6], [0, 0.4]]}
    index = write_example(tmp_path, summary, parts, gradients(200))
    lines = "card => [...card.querySelectorAll('.hint:not(.empty)')].slice(1).map((line) => line.innerText)"
    with opened(chrome, index, "#groups/cluster") as tab:
        cards = {
            card.locator(".id").inner_text() if card.locator(".id").count() else "": card.evaluate(lines)
            for card in tab.locator(".card").all()
        }
        named = "named b by the one-to-one match"
        assert cards["group 0"] == ["a\u00a062\u00a0%, b\u00a020\u00a0%, c\u00a018\u00a0%", named]
        assert cards["group 1"] == ["b\u00a0100\u00a0% of 7 with a label"]
        assert cards["group 2"] == ["no label is known"]
        assert len(cards[""]) == 1  # without a name there is none to differ
        go(tab, index, "#groups/cluster/0")
        assert named in tab.inner_text("main")
        tab.locator("main .picture").first.click()
        tab.wait_for_selector("#image .answers .other")
        assert named in tab.inner_text("#image .answers")
        go(tab, index, "#groups/semisup%2Fsuave/0")
        assert "predicted as a, labelled most often as d" in tab.inner_text("main")


def test_numbers_of_a_column_are_alike(chrome, labelled, tmp_path):
    summary, parts = example(60, 3, classes=list("abc"))
    rows = [["cluster", None, 0.5, 10], ["semisup", 0.0, 0.25, 9]]
    table = {"columns": ["model", "gap", "acc", "outputs"], "rows": rows, "decimals": [None, 3, 3, None]}
    parts["training"]["stages"][1] |= {"columns": ["epoch", "loss", "note"], "rows": [[1, 0.5, None]]}
    index = write_example(tmp_path, summary | {"table": table}, parts, gradients(60))
    with opened(chrome, index, "#scores") as tab:
        models = tab.get_by_role("region", name="Models")
        assert models.locator("td").all_inner_texts() == ["–", "0.500", "10", "0.000", "0.250", "9"]
        assert models.locator("td:not(.number)").count() == 0
        go(tab, index, "#training")  # of one row there is no line to draw
        assert tab.locator("path.line").count() == 3
        assert tab.inner_text(".once") == "loss\n0.500"


def test_settings_that_are_given_come_first(chrome, labelled):
    with opened(chrome, labelled, "#about") as tab:
        keys = tab.get_by_role("region", name="Settings").locator("tbody th")
        assert keys.all_inner_texts() == ["seed", "cluster.scan_heads.lr"]
        tab.get_by_label("Show").select_option("")
        assert keys.count() == 4
        assert tab.locator("pre").count() == 0
        tab.get_by_text("Files, fingerprints").click()
        assert "runs/features" in tab.inner_text("pre")


def test_tables_sort_by_number_and_by_text(chrome, labelled):
    with opened(chrome, labelled, "#scores") as tab:
        table = tab.get_by_role("region", name="Classes")
        table.get_by_role("button", name="F1").click()
        values = [float(text) for text in table.locator("td:last-child").all_inner_texts()]
        assert values == sorted(values, reverse=True)
        assert table.locator("[aria-sort]").get_attribute("aria-sort") == "descending"
        table.get_by_role("button", name="Class").click()
        assert table.locator("tbody th").all_inner_texts() == sorted(CLASSES)


def test_duplicates_across_splits_come_first(chrome, labelled):
    with opened(chrome, labelled, "#doubts") as tab:
        badges = [card.locator(".badge").all_inner_texts() for card in tab.locator(".doubt:not(.label)").all()]
        assert badges == [["train + test", "labels differ"], ["train + test", "labels differ"], ["labels differ"]]
        assert tab.locator(".doubt.label").count() == 20
        tab.locator(".doubt.label .picture").first.click()
        assert tab.locator("#image").is_visible()


def test_without_labels_nothing_of_them_is_shown(chrome, unlabelled):
    with opened(chrome, unlabelled, "#scores") as tab:
        assert tab.locator("h2").all_inner_texts() == ["Models", "Sizes of groups"]
        assert tab.locator(".matrix, .mix").count() == 0
        go(tab, unlabelled, "#doubts")
        assert tab.locator("h2").all_inner_texts() == ["Duplicates and near duplicates (3)"]
        go(tab, unlabelled, "#about")
        assert "No labels are known" in tab.inner_text("main")
        go(tab, unlabelled, "#groups/cluster/2")
        assert "purity" not in tab.inner_text("main")
        assert tab.get_by_label("Label").count() == 0


def test_the_history_is_drawn_with_its_gaps_joined(chrome, labelled):
    with opened(chrome, labelled, "#training") as tab:
        assert tab.locator("figcaption bdi").all_inner_texts() == ["lr", "loss", "held_out_acc"] * 2
        lines = tab.locator("path.line").evaluate_all("paths => paths.map((path) => path.getTotalLength())")
        assert min(lines) > 100
        assert "constant: skipped 0" in tab.inner_text("main")


def test_a_thousand_groups_and_twelve_images(chrome, tmp_path):
    many = write_example(
        tmp_path / "many", *example(1500, 1000, classes=[f"class {i}" for i in range(1000)]), gradients(1500)
    )
    with opened(chrome, many, "#groups") as tab:
        tab.wait_for_selector(".card .picture")
        assert tab.locator(".card").count() == 1000
        assert tab.locator("canvas").count() < 400
        for page in ("map", "scores"):
            go(tab, many, f"#{page}")
        assert tab.locator(".heat").is_visible()
    few = write_example(tmp_path / "few", *example(12, 3, classes=list("abc")), gradients(12))
    with opened(chrome, few) as tab:
        for page in ("groups", "groups/cluster/2", "map", "scores"):
            go(tab, few, f"#{page}")
            assert tab.locator("h1").count() == 1


def test_the_theme_is_switched(chrome, labelled):
    with opened(chrome, labelled, color_scheme="light") as tab:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = tab.evaluate(ground)
        tab.click("#theme")
        assert tab.evaluate(ground) == light
        tab.click("#theme")
        assert tab.inner_text("#theme") == "● Dark"
        assert tab.evaluate(ground) != light


def test_a_single_file_shows_the_groups(chrome, tmp_path):
    path = tmp_path / "one.html"
    summary, parts = example(60, 3, classes=list("abc"))
    Image.new("RGB", (64, 64), "green").save(tmp_path / "p.png")
    shown = {image for group in parts["model-0"]["groups"] for image in group["prototypes"][:4]}
    write_single(path, summary, parts, dict.fromkeys(shown, (tmp_path / "p.png").read_bytes()))
    with opened(chrome, path) as tab:
        assert tab.locator("nav[aria-label=Pages] a").all_inner_texts() == ["Groups", "About"]
        tab.wait_for_selector(".card img")
        assert tab.locator(".card img").evaluate_all("all => all.every((image) => image.naturalWidth === 64)")
        tab.locator(".card .picture").first.click()
        tab.wait_for_selector("#image .answers tbody tr")
        tab.keyboard.press("Escape")
        tab.locator(".card h2 a").first.click()
        tab.wait_for_selector("h1:has-text('a'), h1:has-text('b'), h1:has-text('c')")


def test_a_missing_file_is_named(chrome, labelled, tmp_path):
    shutil.copytree(labelled.parent, tmp_path / "copy")
    (tmp_path / "copy/data/map.js").unlink()
    with opened(chrome, tmp_path / "copy/index.html", "#map", error="ERR_FILE_NOT_FOUND|map.js cannot be read") as tab:
        assert tab.inner_text(".wrong") == "data/map.js cannot be read"
