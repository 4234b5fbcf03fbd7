"""Pages of every setting for the site: `python -m sslpipe.tools.settings_pages FOLDER` writes them, `make site` too."""

import html
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sslpipe.io.files import atomic_folder
from sslpipe.io.stages import LABELLED_STAGES, key_of
from sslpipe.tools.settings_reference import REQUIRED, Setting, blocks, inline, settings_of

HEAD = """\
# Settings

For whoever edits `params.yaml`: every key of it, with its values, its default, its meaning and the source of the
default. These pages are made from the classes of settings, as is what the command line prints:

```
sslpipe settings cluster.scan
sslpipe settings cluster.scan.entropy_weight
sslpipe settings cluster.scan --yaml
```

A key that is absent has its default. A key that does not exist, a value of another kind and a value out of range are
refused with the key, what was found and what is expected. `--set KEY=VALUE` overrules a key for one run of a stage;
KEY is relative to the stage's block. With the JSON schema that `sslpipe settings --schema` prints, an editor completes
and checks the keys.

| key | values | meaning |
|---|---|---|
| `seed` | a whole number, by default 0 | every random number is drawn from it |
| `protocol` | `split` (default) or `full` | which images are trained on and evaluated ([metrics](../metrics.md)) |
| `sslpipe` | a version | the version that made the project; another one refuses to run it |
| `recipe` | text | the recipe that the settings come from |
"""
METHOD = "`{stage}.method` names the method that the stage runs; its settings are the block of that name."
METHODS = """\
`{stage}.methods` lists the methods that `dvc repro` runs. Each has `start`, the run that it starts from (a folder
under `runs/`; `prepare`: from scratch), as in `simmatch: {{start: pretrain}}`. A method's settings are the block of its
name."""
SOURCE = "`prepare.source` names the kind of input; its settings are the block of that name."
Blocks = Mapping[str, type]


def pages() -> dict[str, str]:
    """Return file name → Markdown: the index, a page for each stage, and one for each of its methods or sources."""
    found = blocks()
    keys: dict[str, list[Setting]] = {}
    for row in settings_of():
        keys.setdefault(page_of(row.key, found), []).append(row)
    stages = dict.fromkeys(name.partition(".")[0] for name in found)
    texts = {f"{stage}.md": _stage_page(stage, found, keys.get(stage, [])) for stage in stages}
    for name, cls in found.items():
        if "." in name:
            texts[f"{name}.md"] = _block_page(name, cls, keys.get(name, []))
    index = [f"| [`{stage}`]({stage}.md) | {', '.join(_links(stage, found))} |" for stage in stages]
    return {"index.md": "\n".join([HEAD, "| block | blocks in it |", "|---|---|", *index, ""]), **texts}


def page_of(key: str, found: Blocks) -> str:
    """Return the block that has a key, or its stage if all methods share the key."""
    stage, _, rest = key.partition(".")
    block = f"{stage}.{rest.partition('.')[0]}"
    return block if block in found else stage


def _links(stage: str, found: Blocks) -> Mapping[str, type]:
    """Return link → class of the blocks in a stage's block."""
    inside = {name: cls for name, cls in found.items() if name.startswith(f"{stage}.")}
    return {f"[`{name.partition('.')[2]}`]({name}.md)": cls for name, cls in inside.items()}


def _stage_page(stage: str, found: Blocks, rows: list[Setting]) -> str:
    """Return the page of a stage's own keys, with links to its methods or sources."""
    parts = [f"# {stage}", f"For whoever sets the block `{stage}` of `params.yaml` ([all blocks](index.md))."]
    if stage in found:
        parts.append(_plain(inspect.getdoc(found[stage]) or ""))
    if links := _links(stage, found):
        labelled = stage in map(key_of, LABELLED_STAGES)
        parts.append((SOURCE if stage == "prepare" else METHODS if labelled else METHOD).format(stage=stage))
        table = [f"| {link} | {_plain(_about(cls))} |" for link, cls in links.items()]
        parts.append("\n".join(["| block | |", "|---|---|", *table]))
        parts += ["## For all of them"] if rows else []
        rows = [*rows, *(settings_of(f"{stage}.methods") if labelled else [])]
    return "\n\n".join([*parts, *_sections(stage, rows)]) + "\n"


def _block_page(name: str, cls: type, rows: list[Setting]) -> str:
    """Return the page of a method's or a source's keys."""
    stage = name.partition(".")[0]
    above = f"For whoever sets the block `{name}` of `params.yaml` ([`{stage}`]({stage}.md), [all blocks](index.md))."
    parts = [f"# {name}", above, _plain(_about(cls)), _plain(inspect.getdoc(cls) or ""), *_sections(name, rows)]
    return "\n\n".join(parts) + "\n"


def _about(cls: type) -> str:
    """Return the first paragraph of the text of a class's module."""
    return (inspect.getdoc(inspect.getmodule(cls)) or "").partition("\n\n")[0]


def _sections(name: str, rows: list[Setting]) -> Iterator[str]:
    """Yield the keys as lists, and a heading above those of each inner block."""
    inner: dict[str, list[Setting]] = {}
    for row in rows:
        inner.setdefault(row.key.rpartition(".")[0], []).append(row)
    for block, keys in inner.items():
        if block != name:
            yield f"## {block.removeprefix(f'{name}.')} {{ #{block} }}"
        yield "\n".join(['<dl class="settings">', *map(_entry, keys), "</dl>"])


def _entry(row: Setting) -> str:
    """Return a key with its default, text and values as HTML; its anchor is the whole key."""
    short = row.key.rpartition(".")[2]
    default = REQUIRED if row.default == REQUIRED else f"default <code>{html.escape(inline(row.default))}</code>"
    term = f'<dt id="{row.key}"><a href="#{row.key}"><code>{short}</code></a> <span>{default}</span></dt>'
    return f"{term}<dd>{_code(row.text)} <span>Values: {html.escape(row.values)}.</span></dd>"


def _code(text: str) -> str:
    """Return text as HTML, with what is between backticks as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))


def _plain(text: str) -> str:
    """Return a docstring as Markdown of one line, in which nothing but backticks is markup."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]<>|#])", r"\\\1", part) for part in parts)


def write(docs: Path) -> Path:
    """Replace the folder `settings` in the folder `docs` by the pages, and return it."""
    out = docs / "settings"
    with atomic_folder(out) as folder:
        for name, text in pages().items():
            (folder / name).write_text(text, encoding="utf-8")
    return out


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
