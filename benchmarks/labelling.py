"""What labels cost a person on the page of `sslpipe label`: `python -m benchmarks.labelling PROJECT TRUTH`.

PROJECT is a project of `sslpipe init` on a folder without labels whose stages have run; its labels are written there.
TRUTH is a CSV with the columns file and label of all images. A person is played in Chromium, by keys and clicks alone:
each group gets the class that most of its twelve most typical images have, then questions are answered by TRUTH, and
the pipeline runs. Prints keys and clicks, the accuracies that the page shows, and the classifier's accuracy on the
images without a label. Options: `--questions 60 --confirm` (on each group's page, mark what does not belong among the
pictures of the first screen, and label the others).

Minutes are those of the keystroke-level model (Card, Moran and Newell 1980): a key 0.28 s (an average typist), a click
1.3 s (pointing 1.1, the button 0.2), and 1.35 s of thought for each group, picture and question that is judged.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

KEY, CLICK, THOUGHT = 0.28, 1.3, 1.35
"""Seconds (Card, Moran and Newell 1980, table 1)."""
JUDGED = 12
"""Pictures of a group that its name is chosen by."""
DIGITS = 9
ON_SCREEN = """
() => {
  const at = (selector) => document.querySelector(selector).getBoundingClientRect();
  const { grid } = document.querySelector(".grid");
  return grid.images.slice(...grid.between(at(".head").bottom, at(".acting").top));
}
"""
"""The images of which at least half is in the window."""
LOADED = """
() => {
  const pictures = [...document.querySelectorAll(".grid img")];
  return pictures.length > 0 && pictures.every((picture) => picture.complete && picture.naturalWidth > 0);
}
"""
"""Whether all pictures of a group's page are there: the page labels none that a person has not seen."""


@dataclass
class Person:
    """Presses keys and clicks, and counts them."""

    page: Page
    truth: Callable[[int], str]
    """Image on the page → its class."""
    keys: int = 0
    clicks: int = 0
    judged: int = 0
    log: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        """Minutes by the keystroke-level model."""
        return (KEY * self.keys + CLICK * self.clicks + THOUGHT * self.judged) / 60

    def press(self, key: str) -> None:
        """Press a key."""
        self.keys += 1
        self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type a text."""
        self.keys += len(text)
        self.page.keyboard.type(text)

    def click(self, selector: str) -> None:
        """Click an element."""
        self.clicks += 1
        self.page.click(selector)

    def wait(self, seconds: float, condition: str, value: Any = None) -> None:
        """Wait until an expression holds; the page's policy allows no waiting inside of it."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition, value):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            self.page.wait_for_timeout(50)

    def state(self) -> Any:
        """Return what the page shows, once all that was done is on the disk."""
        self.wait(60, "label.queue.waiting.length === 0")
        return self.page.evaluate("label.state")

    def name_groups(self) -> None:
        """Give each group the class that most of its most typical pictures have, by keys alone."""
        for group in self.state()["groups"]:
            field_of = self.page.locator(f"article[data-group='{group['id']}'] input.name")
            if not self.page.evaluate("document.activeElement.matches('input.name')"):
                self.clicks += 1
                field_of.click()
            self.judged += 1
            self.type(self.majority(group["first"][:JUDGED]))
            self.press("Enter")

    def open(self, address: str) -> None:
        """Go to a view, such as "#group/3", by a click on its link."""
        self.clicks += 1
        self.page.evaluate("address => { location.hash = address; }", address)
        self.page.wait_for_selector(f"main[data-shown='{address}']")

    def name(self, group: int, text: str) -> None:
        """Click a group's field under Groups and type a name."""
        self.click(f"article[data-group='{group}'] input.name")
        self.press("Control+a")
        self.type(text)
        self.press("Enter")

    def merge(self, group: int, into: int) -> None:
        """Merge a group with another one under Groups: two clicks in the list, one on the button."""
        card = self.page.locator(f"article[data-group='{group}']")
        card.locator("select").focus()
        card.locator("select").select_option(str(into))
        card.get_by_role("button", name="Merge").click()
        self.clicks += 3

    def split(self, group: int) -> int:
        """Split a group under Groups and return the number of the new one."""
        before = {each["id"] for each in self.state()["groups"]}
        self.clicks += 1
        self.page.locator(f"article[data-group='{group}']").get_by_role("button", name="Split").click()
        return next(each["id"] for each in self.state()["groups"] if each["id"] not in before)

    def mark(self, *images: int, shift: bool = False, drag: bool = False) -> None:
        """Mark pictures of a group's page: by a click on each, also with Shift, or by dragging from first to last.

        A drag counts as a click, and so does a key that is held.
        """
        at = [self.page.locator(f".grid [data-image='{image}']") for image in images]
        if drag:
            self.clicks += 1
            at[0].hover()
            self.page.mouse.down()
            at[-1].hover()
            self.page.mouse.up()
        for each in () if drag else at:
            self.clicks += 1 + shift
            each.click(modifiers=["Shift"] if shift else [])

    def marked(self) -> list[int]:
        """Return the marked images of a group's page."""
        cells = self.page.locator(".grid [aria-pressed=true]").all()
        return [int(cell.get_attribute("data-image") or -1) for cell in cells]

    def move(self, group: int) -> None:
        """Move the marked images to a group, by its name or code: m, enough of it, and Enter."""
        self.press("m")
        text = self.page.evaluate("id => label.choiceOf(label.group(id))", group)
        self.type(text)
        self.press("Enter")

    def majority(self, images: Sequence[int]) -> str:
        """Return the class that most of these images have."""
        return Counter(self.truth(image) for image in images).most_common(1)[0][0]

    def answer(self, questions: int) -> int:
        """Answer questions and return how many there were."""
        self.page.keyboard.press("Escape")
        self.page.evaluate("location.hash = '#questions'")
        self.clicks += 1
        for number in range(questions):
            try:
                self.page.wait_for_selector(".picture-of img", timeout=20_000)
            except Exception:
                return number
            source = self.page.locator(".picture-of img").get_attribute("src") or ""
            wanted = self.truth(int(source.rsplit("/", 1)[1]))
            names = self.page.evaluate("label.classNames()")
            suggested = self.page.locator(".classes .suggested bdi")
            self.judged += 1
            if suggested.count() and suggested.inner_text() == wanted:
                self.press("Enter")
            elif wanted in names[:DIGITS]:
                self.press(str(names.index(wanted) + 1))
            else:
                self.type(wanted)
                self.press("Enter")
            self.wait(20, "source => document.querySelector('.picture-of img')?.getAttribute('src') !== source", source)
        return questions

    def confirm(self) -> list[int]:
        """On each group's page, mark the pictures on the screen that are of another class, and label the others.

        Returns the images whose label this is.
        """
        labelled = []
        for group in self.state()["groups"]:
            self.page.evaluate(f"location.hash = '#group/{group['id']}'")
            self.clicks += 1
            self.wait(20, "hash => document.getElementById('main').dataset.shown === hash", f"#group/{group['id']}")
            self.page.wait_for_selector("[data-image]")
            self.wait(20, LOADED)
            for image in self.page.evaluate(ON_SCREEN):
                self.judged += 1
                if self.truth(image) != group["name"]:
                    self.click(f"[data-image='{image}']")
                else:
                    labelled.append(image)
            self.press("Control+Enter")
        return labelled

    def learn(self, seconds: float = 3600) -> Any:
        """Run the pipeline with the labels, and return the page's state after it."""
        self.state()
        self.page.evaluate("location.hash = '#run'")
        self.clicks += 2
        self.page.click("main button.main")
        self.wait(20, "label.state.run.state === 'running'")
        self.wait(seconds, "label.state.run.state !== 'running'")
        return self.state()


@contextmanager
def served(project: Path) -> Iterator[str]:
    """Serve a project's page; yields its address."""
    command = [sys.executable, "-m", "stages", "label", "--no-browser"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


def files_of(project: Path) -> list[str]:
    """Return the file of each image on the page."""
    from sslpipe.data.store import Store

    store = Store(project / "runs/prepare")
    return [*store.files("train"), *store.files("held_out")]


def unlabelled_accuracy(project: Path, truth: dict[str, str]) -> tuple[float, int]:
    """Return the classifier's accuracy on the images without a label, and how many these are."""
    import torch

    from sslpipe.data.store import SPLITS, Store
    from sslpipe.nets.inference import head_probabilities
    from sslpipe.nets.model_file import load_model
    from sslpipe.running.features import open_features

    store = Store(project / "runs/prepare")
    stored = open_features(project / "runs/features", store, project / "runs/pretrain")
    network, card = load_model(project / "runs/semisup/propagation")
    known = {store.files("train")[i] for i in store.labelled()[0]}
    right: list[bool] = []
    for split in SPLITS:
        if store.info.count(split):
            found = head_probabilities(network.eval(), stored.tensor(split, torch.device("cpu"))).argmax(axis=1)
            names = [card.classes[output] for output in found.tolist()]
            pairs = zip(store.files(split), names, strict=True)
            right += [name == truth[file] for file, name in pairs if file not in known]
    return sum(right) / len(right), len(right)


def run(project: Path, table: Path, questions: int, *, confirm: bool) -> None:
    """Play a person and print what it cost and what came of it."""
    with table.open(newline="") as file:
        truth = {row["file"]: row["label"] for row in csv.DictReader(file)}
    files = files_of(project)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with served(project) as address, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser).new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_selector("input.name")
        person = Person(page, lambda image: truth[files[image]])
        began = time.perf_counter()
        person.name_groups()
        print(f"names: {person.keys} keys, {person.clicks} clicks, {person.minutes:.1f} minutes")
        if confirm:
            person.confirm()
            print(f"and marks: {person.keys} keys, {person.clicks} clicks, {person.minutes:.1f} minutes")
        answered = person.answer(questions)
        print(
            f"and {answered} questions: {person.keys} keys, {person.clicks} clicks, {person.judged} judged, "
            f"{person.minutes:.1f} minutes; the browser took {time.perf_counter() - began:.0f} s"
        )
        state = person.learn()
        print(f"run: {state['run']['state']}, {state['run']['seconds']:.0f} s; labels: {state['answers']}")
        for result in state["results"]:
            print(f"page: {result['source']}: {result['accuracy']} ± {result['deviation']} of {result['count']}")
    share, count = unlabelled_accuracy(project, truth)
    print(f"classifier on the {count:,} images without a label: {share:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--confirm", action="store_true")
    options = parser.parse_args()
    run(options.project, options.truth, options.questions, confirm=options.confirm)
