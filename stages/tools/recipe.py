"""Published experiments as params files: look at them, compare them, take one."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io.console import info

recipe = typer.Typer(
    name="recipe", help="Take the settings of a published experiment: list, show, use, diff.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Of a recipe, as 'sslpipe recipe list' shows it.")]


@recipe.command("list")
def list_all() -> None:
    """Show all recipes and the published figure that each aims at."""
    from sslpipe.tools import recipes

    rows = [[name, card.title, card.aims_at] for name, card in recipes.cards().items()]
    _print(["recipe", "experiment", "aims at"], rows)


@recipe.command()
def show(name: Name) -> None:
    """Print a recipe as 'use' would write it."""
    from sslpipe.tools import recipes

    info(recipes.text(name).rstrip())


@recipe.command()
def use(
    name: Name,
    target: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of the project.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over a params.yaml that is there.")] = False,
) -> None:
    """Write a recipe as a project's params.yaml, and the dvc.yaml that runs it."""
    from sslpipe.tools.scaffold import use_recipe

    written = use_recipe(name, target, force=force)
    info(f"{name}: {', '.join(written)} written in {target}; 'git init', 'dvc init' and 'dvc repro' run it")


@recipe.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A recipe.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """Show the settings in which two recipes differ."""
    from sslpipe.tools import recipes

    found = recipes.differences(first, second)
    if not found:
        info(f"{first} and {second} have the same settings")
        return
    _print(
        ["key", first, second],
        [[each.key, recipes.as_text(each.first), recipes.as_text(each.second)] for each in found],
    )


def _print(columns: list[str], rows: list[list[str]]) -> None:
    """A table of texts, as wide as the terminal."""
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
