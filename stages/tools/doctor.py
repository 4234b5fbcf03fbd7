"""This machine → what would be used, to paste into a bug report."""


def doctor() -> None:
    """Print versions, devices, threads, free disk and what would be used, to paste into a bug report."""
    from pathlib import Path

    from sslpipe.tools.doctor import findings

    rows = findings(Path())
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {found}" for name, found in rows))
