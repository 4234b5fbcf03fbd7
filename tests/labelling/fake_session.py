"""A session of the labelling page that keeps what it is asked, and a real server for it."""

import http.client
import json
import threading
import time
from contextlib import contextmanager

from sslpipe.io.errors import UserError
from sslpipe.labelling.address import _bound
from sslpipe.labelling.errors import NotThereError, RefusedError
from sslpipe.labelling.server import create_app
from sslpipe.labelling.serving import server_of

TOKEN = "T" * 43
PAGE = "<!doctype html><title>fake</title><link rel=stylesheet href=assets/a.css><script src=assets/a.js></script>"


class FakeSession:
    """Answers with what it was asked; `act` waits for `gate` if the action is {"do": "wait"}."""

    def __init__(self):
        self.done = []
        self.gate = threading.Event()

    def state(self, page, since):
        return {"page": page, "since": since, "name": "café \udce9"}

    def group(self, group):
        if group == 404:
            raise NotThereError("group 404: there is none")
        return {"id": group}

    def questions(self):
        return {"questions": []}

    def changes(self):
        raise OSError(5, "a defect", "/secret/folder/of/the/disk")

    def act(self, action):
        self.done.append(action)
        if action.get("do") == "wait":
            self.gate.wait(20)
        if action.get("do") == "refuse":
            raise RefusedError("name: no\nname")
        if action.get("do") == "full":
            raise UserError("labels.csv: cannot be written: No space left on device")
        if action.get("do") == "stop iteration":
            next(iter(()))
        return {"message": None, "state": {"got": action}}

    def run(self):
        return {"message": "run", "state": {}}

    def stop(self):
        return {"message": "stop", "state": {}}

    def picture(self, image, *, large):
        if image > 5:
            raise NotThereError(f"image {image}: there are 6")
        return (b"large" if large else b"thumb") + str(image).encode(), "image/png"

    def last_line(self):
        return f"{len(self.done)} answers in labels.csv"


class Served:
    """A server at `port` and what it serves."""

    def __init__(self, session, port):
        self.session, self.port = session, port
        self.host = f"127.0.0.1:{port}"

    def ask(self, path, *, method="GET", body=None, token=TOKEN, timeout=5, **headers):
        """Status, headers and body of an answer; headers: with _ for -, None for one that is left out."""
        names = {"Host": self.host}
        if method == "POST":
            names |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, f"/{token}{path}" if token is not None else path, skip_host=True)
            data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
            if data is not None:
                names.setdefault("Content-Length", str(len(data)))
            for name, value in names.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def post(self, body, path="/act", **more):
        """Status and content of the answer to an action."""
        status, _, content = self.ask(path, method="POST", body=body, **more)
        return status, json.loads(content)


@contextmanager
def served(session, assets):
    """A real uvicorn in a thread."""
    listening = _bound(0)
    port = listening.getsockname()[1]
    app = create_app(session, token=TOKEN, port=port, page=PAGE, assets=assets)
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Served(session, port)
    finally:
        session.gate.set()
        server.should_exit = True
        thread.join(5)
        assert not thread.is_alive()
        listening.close()


def until(condition, seconds=5):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
