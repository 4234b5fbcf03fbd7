"""Which first-party files a file reaches through its imports, inside functions too."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("sslpipe", "stages")


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


def named_packages(path: Path) -> set[str]:
    """Packages that a stage names in a text, to find a module in them by its name."""
    texts = {n.value for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.Constant)}
    return {
        t for t in texts if isinstance(t, str) and t.startswith("sslpipe.") and (ROOT / t.replace(".", "/")).is_dir()
    }


def closure(start: set[Path]) -> set[Path]:
    reached, waiting = set(), set(start)
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= imported(path) - reached
    return reached
