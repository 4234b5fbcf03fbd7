"""What the page's server answers: the page, its styles and scripts, pictures, and the calls of a session as JSON."""

import asyncio
import json
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sslpipe.io.errors import UserError, one_line
from sslpipe.labelling.errors import NotThereError, RefusedError
from sslpipe.labelling.guard import Guard, refusal
from sslpipe.labelling.state import ASIDE
from sslpipe.labelling.threads import in_thread

BODY_LIMIT = 1 << 20
"""Maximum length of a request's body, bytes (own choice: an action that moves 100,000 images has half of it)."""
READING, PICTURES = 8, 4
"""Calls at a time: of pictures, so that they do not wait for an action, and of the rest (own choice)."""
PICTURES_KEPT = "private, max-age=3600"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
DEFECT = "a defect of sslpipe; the terminal of `sslpipe label` shows where"
NUMBER = re.compile(r"[0-9]{1,12}")
PAGE = re.compile(r"[\w-]{1,64}", re.ASCII)


class Session(Protocol):
    """What is done on the page; its methods can be called from several threads, and results can be written as JSON.

    Raises RefusedError for an action that makes no sense now, NotThereError for a group or image that does not exist,
    another UserError for what cannot be written.
    """

    def state(self, page: str, since: int | None) -> dict[str, Any]:
        """Return the state, or only what always changes if `since` is its version; page: name of the asking tab."""

    def group(self, group: int) -> dict[str, Any]:
        """Return all images of a group; ASIDE for those that are set aside."""

    def questions(self) -> dict[str, Any]:
        """Return the next questions."""

    def changes(self) -> dict[str, Any]:
        """Return what the last run of the pipeline changed."""

    def act(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Do one action; return a message, or None, and the new state."""

    def run(self) -> dict[str, Any]:
        """Start a run of the pipeline; return as `act`."""

    def stop(self) -> dict[str, Any]:
        """End the run of the pipeline; return as `act`."""

    def picture(self, image: int, *, large: bool) -> tuple[bytes, str]:
        """Return the file of an image and its media type; waits for no other call."""

    def last_line(self) -> str:
        """Return the line that says how many answers are in which file."""


def create_app(session: Session, *, token: str, port: int, page: str, assets: Mapping[str, Path]) -> Guard:
    """Return the ASGI application that serves a session below /TOKEN/ to its own page alone.

    page: the page, HTML. assets: name → file of its styles and scripts, which are read here.
    """
    files = {name: (path.read_bytes(), MEDIA_TYPES[path.suffix]) for name, path in assets.items()}
    answers = _Answers(session, page, files)
    routes = [
        Route("/", answers.page),
        Route("/assets/{name:path}", answers.asset),
        Route("/state", answers.state),
        Route("/group/{group}", answers.group),
        Route("/questions", answers.questions),
        Route("/changes", answers.changes),
        Route("/thumb/{image}", answers.thumb),
        Route("/image/{image}", answers.image),
        Route("/act", answers.act, methods=["POST"]),
        Route("/run", answers.run, methods=["POST"]),
        Route("/stop", answers.stop, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return Guard(app, token=token, port=port)


class _Answers:
    """A function for each address, from a request to its answer."""

    def __init__(self, session: Session, page: str, files: Mapping[str, tuple[bytes, str]]) -> None:
        self._session, self._page, self._files = session, page, files
        # One action at a time, in the order of their arrival, as the page sends them.
        self._acting, self._reading, self._drawing = (asyncio.Semaphore(count) for count in (1, READING, PICTURES))

    async def page(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html")

    async def asset(self, request: Request) -> Response:
        if (file := self._files.get(request.path_params["name"])) is None:
            raise HTTPException(404, "not found")
        return Response(file[0], media_type=file[1])

    async def state(self, request: Request) -> Response:
        page, since = request.query_params.get("page", ""), request.query_params.get("since", "")
        if not PAGE.fullmatch(page):
            raise HTTPException(400, "page: expected a text of 1 to 64 letters, digits, - and _")
        if since and not NUMBER.fullmatch(since):
            raise HTTPException(400, "since: expected a whole number")
        return await self._read(lambda: self._session.state(page, int(since) if since else None))

    async def group(self, request: Request) -> Response:
        text = request.path_params["group"]
        group = ASIDE if text in ("aside", str(ASIDE)) else _number(text)
        return await self._read(lambda: self._session.group(group))

    async def questions(self, request: Request) -> Response:
        return await self._read(self._session.questions)

    async def changes(self, request: Request) -> Response:
        return await self._read(self._session.changes)

    async def thumb(self, request: Request) -> Response:
        return await self._picture(request, large=False)

    async def image(self, request: Request) -> Response:
        return await self._picture(request, large=True)

    async def act(self, request: Request) -> Response:
        action = await _body(request)
        return await self._do(lambda: self._session.act(action))

    async def run(self, request: Request) -> Response:
        await _body(request)
        return await self._do(self._session.run)

    async def stop(self, request: Request) -> Response:
        await _body(request)
        return await self._do(self._session.stop)

    async def _picture(self, request: Request, *, large: bool) -> Response:
        image = _number(request.path_params["image"])
        content, kind = await in_thread(lambda: self._session.picture(image, large=large), self._drawing)
        return Response(content, media_type=kind, headers={"Cache-Control": PICTURES_KEPT})

    async def _read(self, call: Callable[[], Mapping[str, Any]]) -> Response:
        return Response(await in_thread(lambda: _json(call()), self._reading), media_type="application/json")

    async def _do(self, call: Callable[[], Mapping[str, Any]]) -> Response:
        return Response(await in_thread(lambda: _json(call()), self._acting), media_type="application/json")


def _json(content: Mapping[str, Any]) -> bytes:
    r"""Return JSON in ASCII: a name with bytes that are not UTF-8 is a text with \udc80 to \udcff, also in the page."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _number(text: str) -> int:
    """Return the number in an address. Raises HTTPException (404) for another text."""
    if not NUMBER.fullmatch(text):
        raise HTTPException(404, "not found")
    return int(text)


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request has as its body. Raises HTTPException for everything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "Content-Type: expected application/json")
    length = request.headers.get("content-length", "0")
    too_long = HTTPException(413, f"the body has more than {BODY_LIMIT} bytes")
    if len(length) > len(str(BODY_LIMIT)) or int(length) > BODY_LIMIT:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise too_long
    try:
        content = json.loads(body.decode(), parse_constant=_no_number, parse_float=_float)
        # A text with half a character could be written to no file.
        json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return content


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _no_number(text)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = refusal(error.status_code, error.detail if error.status_code != 404 else "not found")
    answer.headers.update(error.headers or {})
    return answer


async def _user_error(request: Request, error: Exception) -> Response:
    kinds = {RefusedError: 400, NotThereError: 404}
    return refusal(next((status for kind, status in kinds.items() if isinstance(error, kind)), 507), one_line(error))


async def _defect(request: Request, error: Exception) -> Response:
    """Return the answer to a request that met a defect, which is told to the terminal and not to the page."""
    traceback.print_exception(error, file=sys.stderr)
    return refusal(500, DEFECT)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody receives it


HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    HTTPException: _http_error,
    UserError: _user_error,
    ClientDisconnect: _gone,
    Exception: _defect,
}
