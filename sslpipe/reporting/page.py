"""The report's files: the page, its styles and scripts, and the data as scripts, which a page from disk can load."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sslpipe.io.files import disk_errors, write_bytes

SOURCES = Path(__file__).parent / "page"
"""The template and, under assets/, the styles and scripts."""
FIRST = ("dom.js", "grid.js", "report.js")
"""Scripts that are loaded before the others, in this order."""
PART = re.compile(r"[a-z]+(-[0-9]+)?")
"""Name of a part, which is the name of its file."""
TYPES = {b"\x89PNG": "image/png", b"RIFF": "image/webp", b"\xff\xd8\xff": "image/jpeg"}
"""First bytes of a picture → its media type."""


def write_page(folder: Path, summary: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Write index.html, assets/ and data/*.js into a folder; pictures are under sprites/, which the caller writes.

    folder: exists, and is replaced as a whole by the caller (`atomic_folder`).
    summary: what every page shows; `summary["pictures"]` describes the sprite sheets. Its optional "first" lists images
    that are once more on sheets of their own, sprites/first-0000.jpg …, in this order: those of the first page.
    parts: name, such as "images", "model-0" or "map" → content for JSON; a part that is None is left out.
    Equal arguments give equal bytes. Raises ValueError for a part with an unsuitable name or with NaN.
    """
    written = {name: content for name, content in parts.items() if content is not None}
    files = {f"data/{name}.js": script(name, content) for name, content in written.items()}
    files["data/summary.js"] = script("summary", {**summary, "parts": sorted(written)})
    files |= {f"assets/{path.name}": path.read_text("utf-8") for path in _assets()}
    scripts = [f"assets/{path.name}" for path in _assets(".js")]
    files["index.html"] = _html(
        title=str(summary["title"]),
        policy=_policy("'self' file:", "'self' file:", "'self' file: data:"),
        styles=[f"assets/{path.name}" for path in _assets(".css")],
        scripts=[*scripts, "data/summary.js", "data/images.js"],
        inline_styles=[],
        inline_scripts=[],
    )
    for name, text in files.items():
        path = folder / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())


def write_single(
    path: Path, summary: Mapping[str, Any], parts: Mapping[str, Any], pictures: Mapping[int, bytes]
) -> None:
    """Write one HTML file of the groups alone, with styles, scripts and pictures inside, such as for a mail.

    parts: as of `write_page`; only "images" and the models are used, and of the file names only those of `pictures`.
    pictures: index of an image → its thumbnail as a JPEG, PNG or WebP file.
    Raises ValueError for a picture of another type, and as `write_page` does.
    """
    models = {entry["file"] for entry in summary["models"]}
    written = {name: parts[name] for name in sorted(models & parts.keys()) if parts[name] is not None}
    images = parts["images"]
    written["images"] = {**images, "names": [n if i in pictures else "" for i, n in enumerate(images["names"])]}
    written["pictures"] = {str(index): _data_uri(pictures[index]) for index in sorted(pictures)}
    shown = {**summary, "single": True, "originals": None, "parts": sorted(written)}
    scripts = [asset.read_text("utf-8") for asset in _assets(".js")]
    scripts += [script(name, content) for name, content in {"summary": shown, **written}.items()]
    styles = [asset.read_text("utf-8") for asset in _assets(".css")]
    text = _html(
        title=str(summary["title"]),
        policy=_policy(_hashes(scripts), _hashes(styles), "data:"),
        styles=[],
        scripts=[],
        inline_styles=[Markup(style) for style in styles],
        inline_scripts=[Markup(code) for code in scripts],  # our own files, and escaped JSON
    )
    write_bytes(path, text.encode())


def script(name: str, content: Any) -> str:
    """Return a script that hands a part to the page; whatever its texts contain, none of them ends the script.

    Raises ValueError for an unsuitable name, and for NaN and infinite numbers, which JSON lacks.
    """
    if not PART.fullmatch(name):
        raise ValueError(f"part {name!r}: expected a name such as map or model-0")
    try:
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"part {name!r}: {error}") from error
    for character in "<>&":  # outside of texts JSON has none of them
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'sslpipeReport("{name}", {text});\n'


def _assets(suffix: str = "") -> list[Path]:
    """Return the styles and scripts in the order in which they are loaded: each of FIRST defines what others use."""
    found = sorted(
        path for path in (SOURCES / "assets").iterdir() if path.suffix in {suffix or ".js", suffix or ".css"}
    )
    return sorted(found, key=lambda path: FIRST.index(path.name) if path.name in FIRST else len(FIRST))


def _html(**values: Any) -> str:
    environment = Environment(loader=FileSystemLoader(SOURCES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("index.html.j2").render(**values)


def _policy(scripts: str, styles: str, images: str) -> str:
    """Return a Content-Security-Policy that allows these sources, and nothing from a network."""
    allowed = f"script-src {scripts}; style-src {styles}; img-src {images}"
    return f"default-src 'none'; {allowed}; connect-src 'none'; base-uri 'none'; form-action 'none'"


def _hashes(texts: list[str]) -> str:
    """Return sources of a Content-Security-Policy that allow these inline texts and no others."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _data_uri(picture: bytes) -> str:
    found = next((media for start, media in TYPES.items() if picture.startswith(start)), None)
    if found is None:
        raise ValueError(f"a picture begins with {picture[:4]!r}: expected a JPEG, PNG or WebP file")
    return f"data:{found};base64,{base64.b64encode(picture).decode()}"
