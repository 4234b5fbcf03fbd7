"""What an artifact is and what it was made of."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[Path, typer.Argument(help="A folder that a stage wrote, such as runs/self-label.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with every setting.")] = False,
) -> None:
    """Say what an artifact is, what made it, its figures, and its parents back to the images."""
    import json

    from sslpipe.io.console import info
    from sslpipe.tools.lineage import lines, trace

    found = trace(path)
    info(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(lines(found)))
