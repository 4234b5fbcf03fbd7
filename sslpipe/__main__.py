"""The command `sslpipe`, also as `python -m sslpipe`."""

import signal


def main() -> None:
    """Run the command that the arguments name."""
    # Loading the libraries takes a second, in which Python would answer Ctrl-C with a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from stages.__main__ import app

    app()


if __name__ == "__main__":
    main()
