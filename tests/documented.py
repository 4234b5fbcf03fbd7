"""What the pages of docs/ say, held against what commands print and write."""

import csv
import json
import re
from pathlib import Path

FORMATS = Path(__file__).parents[1] / "docs/file-formats.md"
QUOTE = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


def words(text):
    """A text without its numbers and its spaces."""
    return re.sub(r"[\d.]+|\s+", " ", text).split()


def missing_quotes(page, printed):
    """Lines that a page shows as printed, and that were not, whatever their numbers."""
    lines = [" ".join(words(line)) for line in "\n".join(printed.values()).splitlines()]
    shown = [line for block in QUOTE.findall(page.read_text()) for line in block.splitlines()]
    return [line for line in shown if not any(" ".join(words(line)) in each for each in lines)]


def undocumented(runs):
    """Files below runs/, columns of tables and keys of JSON files that docs/file-formats.md does not name."""
    for path in runs.rglob("*"):
        if path.is_file() and path.name != ".gitignore" and path.relative_to(runs).parts[0] != "report":
            yield from unnamed(path)


def unnamed(path):
    """The name of a file, its columns and its keys, if docs/file-formats.md does not have them."""
    known = set(re.findall(r"`([^`\n]+)`", FORMATS.read_text()))
    names = {path.name}
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            names |= set(next(csv.reader(file)))
    elif path.suffix == ".json" and isinstance(content := json.loads(path.read_text()), dict):
        names |= set(content)
    return [f"{path}: {name}" for name in sorted(names) if not is_known(name, known)]


def is_known(name, known):
    """Whether a name is among the known ones or ends a known path, in both of which <...> stands for any text."""
    forms = {form for each in known for form in (each, each.rpartition("/")[2])}
    patterns = (re.sub("<.*?>", ".+", re.escape(form)) for form in forms)
    return any(re.fullmatch(pattern, name) for pattern in patterns if pattern != ".+")
