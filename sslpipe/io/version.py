"""The version of sslpipe."""

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown"


def own_version() -> str:
    """Return the version of the installed package, such as "0.1.0"; UNKNOWN if the package is not installed."""
    try:
        return version("sslpipe")
    except PackageNotFoundError:
        return UNKNOWN
