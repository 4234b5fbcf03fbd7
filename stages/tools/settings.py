"""Classes of settings → text."""

from typing import Annotated

import typer

from sslpipe.io import completion


def settings(
    block: Annotated[
        str | None,
        typer.Argument(
            metavar="[BLOCK]",
            help="A block or key, such as cluster, cluster.scan, network.",
            autocompletion=completion.blocks,
        ),
    ] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a block of params.yaml with all defaults.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list for programs.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of params.yaml for editors, params.schema.json.")
    ] = False,
) -> None:
    """Print every key of params.yaml with its values, default and meaning; without BLOCK the names of all blocks."""
    import json
    import shutil
    from dataclasses import asdict

    from sslpipe.io.errors import UserError
    from sslpipe.tools import settings_reference as reference

    given = [name for name, on in (("--schema", schema), ("--yaml", as_yaml), ("--json", as_json)) if on]
    if len(given) > 1:
        raise UserError(f"{given[0]}: found together with {given[1]}; give one of them")
    if schema:
        if block is not None:
            raise UserError(f"--schema: found together with the block {block}; it is for params.yaml as a whole")
        from sslpipe.tools.settings_schema import schema_text

        print(schema_text(), end="")
        return
    if block is None and not as_json:
        print("\n".join(reference.blocks()))
        return
    rows = reference.settings_of(block or "")
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    elif as_yaml:
        print(reference.as_yaml(rows))
    else:
        text = reference.as_text(rows, min(shutil.get_terminal_size().columns, 120))
        # click leaves the style out where standard output is no terminal.
        typer.echo(
            "\n".join(line if line.startswith(" ") else typer.style(line, bold=True) for line in text.split("\n"))
        )
