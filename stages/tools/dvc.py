"""DVC's arguments → what DVC does, where its command is not on PATH."""

import typer


def dvc(context: typer.Context) -> None:
    """Run sslpipe's own DVC where 'dvc' is not on PATH (pipx, uv tool): 'sslpipe dvc repro'."""
    import sys

    from sslpipe.io.own_programs import run_dvc

    sys.exit(run_dvc(context.args))
