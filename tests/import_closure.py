"""What dvc.yaml says, and which first-party files a file reaches through its imports, inside functions too."""

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("sslpipe", "stages")


def stages(params: dict) -> dict[str, dict]:
    """The stages of dvc.yaml as `dvc repro` runs them: foreach written out as stage@key, ${...} filled in."""
    written = {}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in stage:
            written[name] = filled(stage, params)
            continue
        for key, item in value_at(params, stage["foreach"][2:-1]).items():
            written[f"{name}@{key}"] = filled(stage["do"], {**params, "key": key, "item": item})
    return written


def filled(content, values):
    """Texts, lists and mappings of them with the values of ${dotted.key} filled in."""
    if isinstance(content, dict):
        return {key: filled(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [filled(value, values) for value in content]
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(value_at(values, found[1])), content)


def value_at(tree, dotted):
    """The value at a dotted key; KeyError where there is none."""
    for part in dotted.split("."):
        tree = tree[part]
    return tree


def module_file(name: str) -> Path | None:
    """The file of a first-party module, relative to the root; None for packages, whose __init__ is a docstring."""
    path = Path(*name.split(".")).with_suffix(".py")
    return path if name.split(".")[0] in PACKAGES and (ROOT / path).is_file() else None


def imported(path: Path) -> set[Path]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {file for name in names if (file := module_file(name))}


def closure(start: set[Path]) -> set[Path]:
    reached, waiting = set(), set(start)
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= imported(path) - reached
    return reached
