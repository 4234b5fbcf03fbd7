"""The packages that only `sslpipe label` needs."""

from importlib import import_module

from sslpipe.io.errors import UserError

PACKAGES = ("starlette", "uvicorn")


def need_extra() -> None:
    """Raise UserError unless the packages of the extra `label` are installed."""
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError:
            raise UserError(f"label: {name} is not installed; pip install 'sslpipe[label]'") from None
