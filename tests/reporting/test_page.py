"""The report's files without a browser: scripts that no text can leave, equal bytes, and nothing from a network."""

import base64
import html
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser, skip_without
from example import HOSTILE, example

from sslpipe.reporting.page import SOURCES, script, write_page, write_single

ROOT = Path(__file__).parents[2]
ASSETS = sorted((SOURCES / "assets").iterdir())
PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(HOSTILE)
CONTENT = st.recursive(
    TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8
)


def content_of(text):
    name, content = re.fullmatch(r'sslpipeReport\("([a-z0-9-]+)", (.*)\);\n', text).groups()
    return name, json.loads(content)


@given(CONTENT)
def test_no_text_ends_its_script_and_all_come_back(content):
    text = script("map", content)
    assert not set(text) & set("<>&\u2028\u2029")
    assert text.isascii()
    assert content_of(text) == ("map", content)


@pytest.mark.parametrize("name", ["", "../map", "Map", "model-", "map.js", "a b"])
def test_a_part_is_a_plain_name(name):
    with pytest.raises(ValueError, match="expected a name"):
        script(name, {})


def test_numbers_that_json_lacks_are_refused_with_the_part():
    with pytest.raises(ValueError, match="'training'"):
        script("training", {"rows": [[float("nan")]]})


def written(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_equal_projects_give_equal_bytes(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        write_page(tmp_path / name, *example(40, 4, classes=list("abcd")))
        write_single(tmp_path / f"{name}.html", *example(40, 4, classes=list("abcd")), {3: PNG, 1: PNG})
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_summary_names_the_parts_that_are_there(tmp_path):
    summary, parts = example(40, 4)
    write_page(tmp_path, summary, {**parts, "doubts": None})
    _, shown = content_of((tmp_path / "data/summary.js").read_text())
    assert shown["parts"] == ["images", "map", "model-0", "neighbors", "training"]
    assert {path.stem for path in (tmp_path / "data").iterdir()} == {*shown["parts"], "summary"}


def test_titles_are_escaped_in_the_page(tmp_path):
    summary, parts = example(12, 2)
    for title in HOSTILE[:2]:
        write_page(tmp_path, summary | {"title": title}, parts)
        page = (tmp_path / "index.html").read_text()
        assert "alert(1)<" not in page.replace("alert(1)&lt;", "")
        assert "<img" not in page


@pytest.mark.parametrize("path", ASSETS, ids=lambda path: path.name)
def test_assets_name_no_address_and_cannot_end_a_script(path):
    text = path.read_text("utf-8")
    assert not re.findall(r"(?<![\w\":])//[\w.]+\.\w|https?://(?!www\.w3\.org/2000/svg\")|@import|url\(", text)
    assert not re.search(r"</script|</style|<!--", text, re.IGNORECASE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert len(text.splitlines()) <= 300


def test_the_page_allows_scripts_from_files_only(tmp_path):
    write_page(tmp_path, *example(12, 2))
    page = html.unescape((tmp_path / "index.html").read_text())
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    assert not re.search(r"<script(?! defer src=)", page)
    loaded = re.findall(r'(?:src|href)="((?:assets|data)/[^"]+)"', page)
    assert loaded[:2] == ["assets/base.css", "assets/report.css"]
    assert loaded[2:5] == ["assets/dom.js", "assets/grid.js", "assets/report.js"]
    assert loaded[-2:] == ["data/summary.js", "data/images.js"]
    assert {f"assets/{path.name}" for path in ASSETS} == {name for name in loaded if name.startswith("assets")}
    assert all((tmp_path / name).exists() for name in loaded)


def test_a_single_file_holds_what_it_shows_and_no_other_names(tmp_path):
    summary, parts = example(40, 4, names=[f"secret-{index}.jpg" for index in range(40)])
    write_single(tmp_path / "one.html", summary | {"originals": "../images/"}, parts, {3: PNG, 7: b"\xff\xd8\xff\xe0"})
    page = (tmp_path / "one.html").read_text()
    assert set(re.findall(r"secret-\d+", page)) == {"secret-3", "secret-7"}
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in page
    assert "data:image/jpeg;base64," in page
    assert "../images" not in page
    assert "unsafe" not in page
    parts = [name for name in ("map", "neighbors", "doubts", "training") if f'sslpipeReport("{name}"' in page]
    assert not parts


def test_a_picture_of_an_unknown_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a JPEG, PNG or WebP"):
        write_single(tmp_path / "one.html", *example(12, 2), {0: b"<svg>"})
    assert not (tmp_path / "one.html").exists()


def test_the_wheel_holds_the_page(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "sslpipe/reporting/page/index.html.j2" in names
    assert {f"sslpipe/reporting/page/assets/{path.name}" for path in ASSETS} <= set(names)


def test_without_a_browser_its_tests_are_skipped_or_fail_where_it_is_required(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("CI", "true")  # many machines set it
    monkeypatch.delenv("SSLPIPE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not tested in a browser: none found, install one of chromium"):
        skip_without()
    monkeypatch.setenv("SSLPIPE_BROWSER", "required")
    skip_without()
    with pytest.raises(pytest.fail.Exception, match="none found"), browser():
        pass
