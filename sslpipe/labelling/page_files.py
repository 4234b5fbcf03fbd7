"""Files of the page of `sslpipe label`: its HTML, styles and scripts, some of which are those of the report."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sslpipe.reporting.page import SOURCES as REPORT

SOURCES = Path(__file__).parent / "page"
"""The template and, under assets/, the page's own styles, scripts and icon."""
SHARED = ("base.css", "dom.js", "grid.js")
"""Files of the report's page that this page has too."""
STYLES = ("base.css", "label.css")
"""In the order in which they are loaded."""
SCRIPTS = (
    "dom.js",
    "grid.js",
    "label.js",
    "queue.js",
    "names.js",
    "chooser.js",
    "keys.js",
    "groups.js",
    "marks.js",
    "group.js",
    "questions.js",
    "run.js",
)
"""In the order in which they are loaded: dom.js, grid.js and label.js define what the others use."""


def assets() -> dict[str, Path]:
    """Return name → path of every file that the page loads from assets/: .css, .js and .svg."""
    own = {path.name: path for path in sorted((SOURCES / "assets").iterdir()) if path.is_file()}
    return {name: REPORT / "assets" / name for name in SHARED} | own


def page(title: str) -> str:
    """Return the page's HTML; all addresses in it are relative, such as assets/label.css, and it holds no inline code.

    title: name of the project, any text.
    """
    environment = Environment(loader=FileSystemLoader(SOURCES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("index.html.j2").render(
        title=title,
        styles=[f"assets/{name}" for name in STYLES],
        scripts=[f"assets/{name}" for name in SCRIPTS],
    )
