"""Who may ask the page's server: checks of each request before anything is answered, and headers of each answer.

Every user and every program of a machine reaches its 127.0.0.1, and so does every web page that its browser shows. The
server therefore answers requests with its own name (a foreign name that points to 127.0.0.1 is refused), from its own
pages, and with the secret token of the address.
"""

import re
from hmac import compare_digest

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost")
HTTP_PORT = 80
"""Port that browsers leave out of the names Host and Origin."""
LONGEST = 200
"""Maximum length of a path (own choice: that of a token, of "assets/" and of a name has about 80 characters)."""
PATH = re.compile(r"/([\w-]+)(/[\w./-]*)", re.ASCII)
"""A path that can be an address: the token and what follows it. What is encoded with % is none."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer that does not have its own."""


def refusal(status: int, text: str) -> Response:
    """Return the answer to a request that is refused. It closes the connection: a body may be unread."""
    return JSONResponse({"error": text}, status, {"Connection": "close"})


def not_found() -> Response:
    """Return the answer to an unknown address, which a wrong token is too."""
    return refusal(404, "not found")


class Guard:
    """Passes requests that are allowed to `app`, with the path after the token; refuses the others."""

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == HTTP_PORT else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refused(Request(scope))
        path = None if refused else self._path(scope["raw_path"])
        if path is None:
            await (refused or not_found())(scope, receive, send_with_headers)
        else:
            inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
            await self._app(inner, receive, send_with_headers)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request that is not for this server or not from its page."""
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return refusal(421, "this address is not served here")
        if origins and origins != [f"http://{hosts[0]}"]:
            return refusal(403, "the request comes from another page")
        if not origins and request.method == "POST":
            return refusal(403, "Origin: missing, expected that of the page")
        if request.headers.get("sec-fetch-site") == "cross-site":
            return refusal(403, "the request comes from another page; open the address itself")
        return None

    def _path(self, raw: bytes) -> str | None:
        """Return the part of a path after the token; None without the right token, and for what is no address."""
        if len(raw) > LONGEST or not (found := PATH.fullmatch(raw.decode("latin-1"))):
            return None
        return found[2] if compare_digest(found[1].encode(), self._token) else None
