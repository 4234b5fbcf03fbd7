"""The site that `make site` builds: no warning, no dead link, every setting, and nothing from another host."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from sslpipe.tools.settings_pages import page_of, write
from sslpipe.tools.settings_reference import blocks, settings_of

sys.path.insert(0, str(Path(__file__).parent / "reporting"))
from browser import browser, found

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
"""Element → the attribute with the address of what the browser loads for it."""


class Page(HTMLParser):
    """What a page has and names: its anchors, its links, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.loads.append(given[LOADED[tag]])


def wrong_links(folder):
    """Links and loaded files of the pages of a folder that lead nowhere, or that are loaded from another host."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a host
            continue
        for address in page.loads + page.links:
            if re.match("https?:", address):
                if address in page.loads:
                    yield f"{path.name} loads {address}"
                continue
            place, _, anchor = address.partition("#")
            target = (path.parent / unquote(place)).resolve() if place else path
            if not target.is_file() or (anchor and unquote(anchor) not in pages[target].anchors):
                yield f"{path.name}: {address}"


def built(folder):
    """Build the pages of the folder, and return what the builder printed; every host is unreachable."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    nowhere["NO_COLOR"] = "1"
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | nowhere, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("settings"))
    write(folder / "docs")
    assert "No issues found" in built(folder)
    return folder / "site"


def test_the_builder_and_the_check_see_a_broken_link(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Start\n\n[there](other.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: broken\n")
    with pytest.raises(AssertionError, match="page does not exist"):
        built(tmp_path)
    text = (
        '<a href="#here">a</a><a href="b.html">b</a><p id="there"><a href="#there"><script src="https://example.org/c">'
    )
    page = tmp_path / "pages/a.html"
    page.parent.mkdir()
    page.write_text(text)
    assert len(list(wrong_links(page.parent))) == 3


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_another_host(site):
    assert list(wrong_links(site)) == []


def test_every_setting_is_on_its_page(site):
    pages = {path.stem: Page(path.read_text(encoding="utf-8")) for path in (site / "settings").glob("*.html")}
    found = blocks()
    assert {name.partition(".")[0] for name in found} | set(found) | {"index"} == set(pages)
    missing = [row.key for row in settings_of() if row.key not in pages[page_of(row.key, found)].anchors]
    assert missing == []
    assert len(set().union(*(page.anchors for page in pages.values()))) > len(settings_of())


def test_every_page_is_in_the_navigation_and_says_for_whom_it_is(site):
    text = (ROOT / "mkdocs.yml").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if f"- {page}\n" not in text} == set()
    assert {name for name in blocks() if "." not in name} <= set(re.findall(r"settings/(\w+)\.md", text))
    opening = re.compile(r"# .+\n\nFor ")
    assert [page for page in pages if not opening.match((ROOT / "docs" / page).read_text(encoding="utf-8"))] == []


def test_lists_and_tables_of_the_pages_are_what_they_are_on_github(site):
    """GitHub needs no empty line above a list, the site's Markdown does."""
    texts = {path.name: re.sub("<pre.*?</pre>", "", path.read_text(), flags=re.DOTALL) for path in site.glob("*.html")}
    assert [name for name, text in texts.items() if re.search(r"^(\* |- |\d\. |\|)", text, re.MULTILINE)] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_repository_lead_to_files(name):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.skipif(found() is None and os.environ.get("SSLPIPE_BROWSER") != "required", reason="no Chromium found")
def test_pages_open_from_disk_without_a_network_and_are_searched(site):
    names = ["index.html", "results.html", "choosing-a-method.html", "file-formats.html", "settings/semisup.suave.html"]
    with browser() as launched:
        context = launched.new_context(viewport={"width": 390, "height": 800}, offline=True)
        page = context.new_page()
        page.set_default_timeout(10_000)
        away, wrong = [], []
        page.on("request", lambda request: away.append(request.url) if request.url.startswith("http") else None)
        page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        for name in names:
            page.goto((site / name).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("Control+k")
        page.locator("input[placeholder=Search]").press_sequentially("modularity")
        page.get_by_text(re.compile(r"^[1-9]\d* results$")).wait_for()
        context.close()
    assert (away, wrong) == ([], [])
