"""Chromium for tests of the report: found on this machine, with its network off, and every request and error kept."""

import os
import re
import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


MISSING = f"the report is not tested in a browser: none found, install one of {', '.join(NAMES)}"


def found():
    """Path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def skip_without():
    """Skip the tests of the module that calls this if there is no Chromium; with SSLPIPE_BROWSER=required they fail."""
    if found() is None and os.environ.get("SSLPIPE_BROWSER") != "required":
        pytest.skip(MISSING, allow_module_level=True)


@contextmanager
def browser():
    path = found() or pytest.fail(MISSING)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()


@contextmanager
def opened(launched, index, address="", *, width=1280, height=800, error=None, **options):
    """A page of a report opened from disk; nothing leaves it, and neither errors nor dialogs of the browser appear.

    error: pattern of the messages that must appear, and no others.
    """
    context = launched.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    requests, wrong = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    go(page, index, address)
    yield page
    page.wait_for_timeout(50)
    context.close()
    away = [url for url in requests if not url.startswith(("file://", "data:", "blob:"))]
    assert not away, away
    assert (error is not None) == bool(wrong), wrong
    assert all(re.search(error, message) for message in wrong), wrong


def go(page, index, address):
    """Show a page of a report, such as "#map"."""
    page.goto(f"{index.as_uri()}{address}")
    page.wait_for_selector(f"main[data-shown='{address}']")
