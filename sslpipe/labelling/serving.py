"""The page's server as a part of the command: until a signal ends it, within a second."""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn

from sslpipe.io.console import info
from sslpipe.labelling.address import HOST, Address
from sslpipe.labelling.server import Session, create_app

GRACE_SECONDS = 0.5
"""Time for requests that are being answered, and for the session's last line, once a signal has come (own choice)."""
CHECK_SECONDS = 0.2
"""Seconds between looks for signals, which on Windows do not end the wait for a thread."""


def serve(
    session: Session,
    address: Address,
    listening: socket.socket,
    *,
    page: str,
    assets: Mapping[str, Path],
    browser: bool | None,
) -> None:
    """Serve a session's page until KeyboardInterrupt (Ctrl-C and other signals), which is raised again at the end.

    browser: whether to open the page in one; None: where it can be seen. The last line says how many answers are in
    which file.
    """
    app = create_app(session, token=address.token, port=address.port, page=page, assets=assets)
    server = server_of(app)
    try:
        info(f"the page: {address.url}")
        info("every answer is on disk at once; Ctrl-C ends the page")
        if "SSH_CONNECTION" in os.environ:
            info(f"from another machine: ssh -L {address.port}:{HOST}:{address.port} to here, then the same address")
        if shown_here() if browser is None else browser:
            threading.Thread(target=_open, args=(address.url,), daemon=True).start()
        _serve_until_interrupted(server, listening)
    finally:
        info(_last_line(session))


def _serve_until_interrupted(server: uvicorn.Server, listening: socket.socket) -> None:
    """Let a server run in a thread until KeyboardInterrupt is raised in this one."""
    # Not Thread.join, which a signal makes believe that the thread has ended (Python 3.11).
    ended = threading.Event()

    def run() -> None:
        try:
            server.run(sockets=[listening])
        except Exception:
            if not server.should_exit:  # else it is the socket that is closed while the server starts or ends
                raise
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not ended.wait(CHECK_SECONDS):
            pass
    finally:
        server.should_exit = True
        ended.wait(GRACE_SECONDS)
    raise RuntimeError("the page's server has ended")


def server_of(app: Any) -> uvicorn.Server:
    """Return uvicorn's server of an application: HTTP alone, without logs, with no header of its own but the date."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        workers=1,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    config.load()  # here, since its imports would make the end wait if a signal came at once
    return uvicorn.Server(config)


def shown_here() -> bool:
    """Return whether a browser that is opened is seen: by a person at this machine's terminal."""
    if not sys.stdout.isatty() or {"SSH_CONNECTION", "CI"} & os.environ.keys():
        return False
    # Without a display, browsers of the terminal would take its place.
    return not sys.platform.startswith("linux") or bool({"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys())


def _open(url: str) -> None:
    if not webbrowser.open(url):
        info("no browser could be opened: open the address above")


def _last_line(session: Session) -> str:
    """Return the session's last line, or what is known without it while the session is still at work."""
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.append(session.last_line()), daemon=True)
    thread.start()
    thread.join(GRACE_SECONDS)
    return (
        lines[0] if lines else "ended during an action, which is on disk or not done; the answers before it are on disk"
    )
