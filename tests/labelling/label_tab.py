"""The page of `sslpipe label` in a tab of Chromium, and what tests ask it."""

import time
from contextlib import contextmanager

ON_SCREEN = """(() => {
    const edge = (name) => document.querySelector(name).getBoundingClientRect();
    const [top, bottom] = [edge(".head").bottom, edge(".acting").top];
    return [...document.querySelectorAll(".grid .picture")].filter((cell) => {
        const box = cell.getBoundingClientRect();
        return box.top + box.height / 2 >= top && box.top + box.height / 2 <= bottom;
    }).length;
})()"""
"""How many pictures are at least half between the bars."""


@contextmanager
def opened(chrome, server, address="#groups", *, width=1280, height=800, wrong=False, **options):
    """The page at an address; without `wrong` no message of the browser appears."""
    context = chrome.new_context(viewport={"width": width, "height": height}, **options)
    tab = context.new_page()
    tab.set_default_timeout(4000)
    messages = []
    tab.on("console", lambda m: messages.append(m.text) if m.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: messages.append(f"error {error}"))
    go(tab, server, address)
    yield tab
    context.close()
    harmless = "Failed to load resource"  # a status of the server, or no reply from it
    assert not [text for text in messages if not (wrong and text.startswith(harmless))], messages


def go(tab, server, address):
    tab.goto(server.url + address)
    tab.wait_for_selector(f"main[data-shown='{address}']")


def wait(condition, seconds=5):
    """Wait until a condition of this process is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.02)


def until(tab, expression, seconds=5):
    """Wait until an expression of the page is true; the page's policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        tab.wait_for_timeout(20)


def done(server):
    return [{key: value for key, value in action.items() if key != "id"} for action in server.received]


def marked(tab):
    places = "[...document.querySelectorAll('.grid [aria-pressed=true]')].map((cell) => Number(cell.dataset.place))"
    return sorted(tab.evaluate(places))


def cell(tab, place):
    return tab.locator(f".grid [data-place='{place}']")
