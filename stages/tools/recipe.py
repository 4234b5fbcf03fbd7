"""Settings of published experiments → a params file."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import completion
from sslpipe.io.console import info

recipe = typer.Typer(
    name="recipe", help="List, show, use and compare the settings of published experiments.", no_args_is_help=True
)


def complete(incomplete: str) -> list[str]:
    """Return the names of recipes that the shell completes."""
    from sslpipe.tools import recipes

    return completion.begin(recipes.names(), incomplete)


Name = Annotated[str, typer.Argument(help="Name of a recipe, see 'sslpipe recipe list'.", autocompletion=complete)]


@recipe.command("list")
def list_all() -> None:
    """List all recipes with the published result of each."""
    from sslpipe.tools import recipes

    cards = {name: recipes.load(name).card for name in recipes.names()}
    rows = [[name, card.title, card.aims_at] for name, card in cards.items()]
    _print(["recipe", "experiment", "aims at"], rows)


@recipe.command()
def show(name: Name) -> None:
    """Print a recipe as 'use' writes it."""
    from sslpipe.tools import recipes

    info(recipes.text(name).rstrip())


@recipe.command()
def use(
    name: Name,
    target: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of the project.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write the params.yaml of a recipe, its schema for editors, and its dvc.yaml into a folder."""
    from sslpipe.tools.scaffold import use_recipe

    written = use_recipe(name, target, force=force)
    info(f"{name}: {', '.join(written)} written in {target}; 'git init', 'dvc init' and 'dvc repro' run it")


@recipe.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="Name of a recipe.", autocompletion=complete)],
    second: Annotated[str, typer.Argument(metavar="B", help="Name of another recipe.", autocompletion=complete)],
) -> None:
    """Show the settings in which two recipes differ."""
    from sslpipe.tools import recipes

    differences = recipes.differences(first, second)
    if not differences:
        info(f"{first} and {second} have the same settings")
        return
    _print(
        ["key", first, second],
        [[key, *map(recipes.as_text, pair)] for key, pair in differences.items()],
    )


def _print(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table of texts, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sslpipe.metrics.table import LOG_WIDTH

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if Console().is_terminal else LOG_WIDTH).print(table)
