"""Which sslpipe this is."""

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown"


def own_version() -> str:
    """The installed package's version, such as "0.1.0"; UNKNOWN where the code runs without being installed."""
    try:
        return version("sslpipe")
    except PackageNotFoundError:
        return UNKNOWN
