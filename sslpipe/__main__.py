"""`python -m sslpipe` is the command `sslpipe`."""

from stages.__main__ import app

if __name__ == "__main__":
    app()
