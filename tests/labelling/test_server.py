"""The labelling page's server, a real one, asked as browsers ask and as they do not."""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_session import PAGE, TOKEN, FakeSession, served, until

from sslpipe.labelling.server import BODY_LIMIT

NOT_FOUND = b'{"error":"not found"}'
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    (folder / "a.css").write_text("p {}")
    (folder / "a.js").write_text("1;")
    (folder / "secret.txt").write_text("secret")
    with served(FakeSession(), {name: folder / name for name in ("a.css", "a.js")}) as found:
        yield found


def raw(server, data, *, seconds=5):
    """What a server answers to these bytes, up to the end of the connection or of the first answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        return first_answer(connection)


def first_answer(connection):
    found = b""
    while b"\r\n\r\n" not in found:
        part = connection.recv(65536)
        if not part:
            return found
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < lengths[0] and (part := connection.recv(65536)):
        body += part
    return head + b"\r\n\r\n" + body


def request(server, path, method="GET", host=None, more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: {host or server.host}\r\n{more}\r\n".encode("latin-1")


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [
        ("/", "text/html; charset=utf-8", PAGE.encode()),
        ("/assets/a.css", "text/css; charset=utf-8", b"p {}"),
        ("/assets/a.js", "text/javascript; charset=utf-8", b"1;"),
        ("/questions", "application/json", b'{"questions":[]}'),
        ("/group/3", "application/json", b'{"id":3}'),
        ("/group/aside", "application/json", b'{"id":-1}'),
        ("/thumb/3", "image/png", b"thumb3"),
        ("/image/0", "image/png", b"large0"),
    ],
)
def test_every_address_has_its_answer_and_every_answer_the_headers(server, path, kind, content):
    status, headers, body = server.ask(path)
    expected = HEADERS | ({"cache-control": "private, max-age=3600"} if kind == "image/png" else {})
    assert (status, headers["content-type"], body) == (200, kind, content)
    assert headers.keys() == {*expected, "content-type", "content-length", "date"}
    assert expected.items() <= headers.items()


def test_the_state_knows_the_tab_and_its_version_and_keeps_names_of_any_bytes(server):
    status, _, body = server.ask("/state?page=tab-1_A&since=17")
    assert (status, json.loads(body)) == (200, {"page": "tab-1_A", "since": 17, "name": "café \udce9"})
    assert json.loads(server.ask("/state?page=t")[2])["since"] is None
    for query in ("", "?page=", "?page=a%20b", f"?page={'a' * 65}", "?page=t&since=x", "?page=t&since=-1"):
        assert server.ask(f"/state{query}")[0] == 400
    assert server.ask(f"/state?page=t&since={'9' * 5000}")[0] == 400


def test_actions_are_passed_on_and_runs_started_and_stopped(server):
    action = {"id": "x", "do": "name", "group": 3, "name": "caf\u00e9 \udce9"}
    assert server.post(action) == (200, {"message": None, "state": {"got": action}})
    assert server.session.done[-1] == action
    assert server.post({}, "/run")[1]["message"] == "run"
    assert server.post({}, "/stop")[1]["message"] == "stop"
    assert server.post(action, Content_Type="Application/JSON; charset=utf-8")[0] == 200
    assert server.post(action, Host=f"localhost:{server.port}", Origin=f"http://localhost:{server.port}")[0] == 200


def test_errors_are_one_line_with_the_status_of_their_class(server, capfd):
    assert server.post({"do": "refuse"}) == (400, {"error": "name: no name"})
    full = "labels.csv: cannot be written: No space left on device"
    assert server.post({"do": "full"}) == (507, {"error": full})
    assert json.loads(server.ask("/group/404")[2]) == {"error": "group 404: there is none"}
    assert [server.ask(path)[0] for path in ("/group/404", "/thumb/6", "/image/999999999")] == [404, 404, 404]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("how", ["read", "act"])
def test_a_defect_is_a_traceback_in_the_terminal_and_no_detail_for_the_page(server, capfd, how):
    path, more = ("/changes", {}) if how == "read" else ("/act", {"method": "POST", "body": {"do": "stop iteration"}})
    status, headers, body = server.ask(path, **more)
    assert status == 500
    assert json.loads(body) == {"error": "a defect of sslpipe; the terminal of `sslpipe label` shows where"}
    assert HEADERS.items() <= headers.items()
    printed = capfd.readouterr().err
    assert printed.startswith("Traceback")
    assert ("/secret/folder" in printed) == (how == "read")
    assert printed.count("Traceback") <= 2
    assert server.ask("/questions")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "localhost",
        "127.0.0.1:1",
        "127.0.0.1:{port}0",
        "127.0.0.1:{port}.evil.example",
        "user@127.0.0.1:{port}",
        "0.0.0.0:{port}",
        "127.1:{port}",
        "[::1]:{port}",
        "localhost.:{port}",
        "",
    ],
)
def test_another_name_of_the_server_is_refused(server, host):
    name = host.format(port=server.port)
    for path in ("/", "/state?page=t", "/thumb/1", "/unknown"):
        status, headers, body = server.ask(path, Host=name)
        assert status == 421
        assert b"fake" not in body
        assert HEADERS.items() <= headers.items()
    before = len(server.session.done)
    assert server.post({"do": "x"}, Host=name, Origin=f"http://{name}")[0] == 421
    assert len(server.session.done) == before


def test_requests_without_a_host_or_with_two_are_refused(server):
    assert raw(server, f"GET /{TOKEN}/ HTTP/1.0\r\n\r\n".encode()).startswith(b"HTTP/1.1 421 ")
    assert b" 400 " in raw(server, f"GET /{TOKEN}/ HTTP/1.1\r\n\r\n".encode()).split(b"\r\n")[0]
    for second in (server.host, "evil.example"):
        assert b" 400 " in raw(server, request(server, f"/{TOKEN}/", more=f"Host: {second}\r\n")).split(b"\r\n")[0]
    absolute = f"http://{server.host}/{TOKEN}/"
    assert b" 404 " in raw(server, request(server, absolute)).split(b"\r\n")[0]
    # The name in the address does not take the place of that in Host.
    assert b" 421 " in raw(server, request(server, absolute, host="evil.example")).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "https://127.0.0.1:{port}",
        "http://localhost:{port}",
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port} http://evil.example",
        "http://127.0.0.1:{port}.evil.example",
    ],
)
def test_requests_of_other_pages_are_refused(server, origin):
    before = len(server.session.done)
    found = origin.format(port=server.port)
    for path in ("/", "/state?page=t", "/image/1", "/assets/a.js"):
        assert server.ask(path, Origin=found)[0] == 403
    assert server.post({"do": "x"}, Origin=found)[0] == 403
    assert server.ask("/act", method="OPTIONS", Origin=found, Access_Control_Request_Method="POST")[0] == 403
    assert len(server.session.done) == before


def test_what_a_browser_says_is_of_another_site_or_what_has_no_origin_is_refused(server):
    before = len(server.session.done)
    assert server.ask("/", Sec_Fetch_Site="cross-site")[0] == 403
    assert server.ask("/thumb/1", Sec_Fetch_Site="cross-site")[0] == 403
    assert server.post({"do": "x"}, Sec_Fetch_Site="cross-site")[0] == 403
    assert server.post({"do": "x"}, Origin=None)[0] == 403
    two = f"Origin: http://{server.host}\r\nOrigin: http://evil.example\r\n"
    assert b" 403 " in raw(server, request(server, f"/{TOKEN}/act", "POST", more=two)).split(b"\r\n")[0]
    assert len(server.session.done) == before
    for site in ("none", "same-origin"):
        assert server.ask("/", Sec_Fetch_Site=site)[0] == 200


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "T", TOKEN.lower(), "%54" + TOKEN[1:], "é" * 20])
def test_without_the_token_every_address_is_unknown(server, token):
    before = len(server.session.done)
    for path in ("/", "/state?page=t", "/thumb/1", "/assets/a.js", "/unknown", ""):
        found = raw(server, request(server, f"/{token}{path}"))
        if token == "é" * 20:
            assert b" 400 " in found.split(b"\r\n")[0]
        else:
            assert found.startswith(b"HTTP/1.1 404 ")
            assert found.endswith(NOT_FOUND)
    if token.isascii():
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, _, body = server.ask("/act", token=token, method=method, Origin=f"http://{server.host}")
            assert (status, body) == (404, NOT_FOUND)
    assert len(server.session.done) == before


@pytest.mark.parametrize(
    "path",
    [
        "/assets/secret.txt",
        "/assets/../assets/secret.txt",
        "/assets/%2e%2e/assets/secret.txt",
        "/assets/..%2fsecret.txt",
        "/assets//a.js",
        "//assets/a.js",
        "/assets/a.js/",
        "/assets/%61.js",
        "/assets/a.js%00",
        "/assets/a.js%0a",
        "/assets/A.JS",
        "/assets/a.js\\..\\secret.txt",
        "/assets//etc/passwd",
        "/assets",
        "/assets/",
        "/state/",
        "/questions%2f",
        "/thumb/1/",
        "/thumb/-1",
        "/thumb/1.5",
        "/thumb/1e3",
        "/thumb/%31",
        "/thumb/" + "9" * 20,
        "/thumb/1/../../assets/a.js",
        "/group/x",
        "/group/-2",
        "/group/",
        "/." * 90,
        "/" + "a" * 5000,
        "/thumb/" + "9" * 5000,
        "/act/",
        "/index.html",
    ],
)
def test_only_the_known_addresses_are_served(server, path):
    found = raw(server, request(server, f"/{TOKEN}{path}"))
    assert found.startswith(b"HTTP/1.1 404 ")
    assert found.endswith(NOT_FOUND)
    assert b"secret" not in found


@pytest.mark.parametrize("text", ["\0", "\x01", " ", "\r", "\x7f", "é", "\xff", "a" * 200_000])
def test_addresses_that_are_none_are_refused(server, text):
    found = raw(server, request(server, f"/{TOKEN}/assets/a{text}.js"))
    assert found.split(b"\r\n")[0].split(b" ")[1] in (b"400", b"404")
    assert b"secret" not in found


def test_other_methods_are_refused(server):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "FOO"):
        for path in ("/", "/state?page=t", "/thumb/1", "/assets/a.js"):
            status, headers, body = server.ask(path, method=method)
            assert (status, "error" in json.loads(body)) == (405, True)
            assert "access-control-allow-origin" not in headers
    for path in ("/act", "/run", "/stop"):
        assert server.ask(path)[0] == 405
        assert server.ask(path, method="PUT", body={})[0] == 405


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_other_types_of_bodies_are_refused(server, kind):
    before = len(server.session.done)
    assert server.post({"do": "x"}, Content_Type=kind)[0] == 415
    assert server.post({}, "/run", Content_Type=kind)[0] == 415
    assert len(server.session.done) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"7",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": 1} {}',
        b"\xef\xbb\xbf{}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_bodies_that_are_no_json_object_are_refused(server, body, capfd):
    before = len(server.session.done)
    for path in ("/act", "/run", "/stop"):
        assert server.post(body, path)[0] == 400
    assert len(server.session.done) == before
    assert capfd.readouterr() == ("", "")


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(server):
    origin = f"Origin: http://{server.host}\r\nContent-Type: application/json\r\n"
    for length in (BODY_LIMIT + 1, 10**15):
        more = f"{origin}Content-Length: {length}\r\n"
        found = raw(server, request(server, f"/{TOKEN}/act", "POST", more=more))
        assert found.startswith(b"HTTP/1.1 413 ")
        more += "Expect: 100-continue\r\n"
        assert raw(server, request(server, f"/{TOKEN}/act", "POST", more=more)).startswith(b"HTTP/1.1 413 ")
    body = b'{"a": "' + b"x" * (BODY_LIMIT - 9) + b'"}'
    assert len(body) == BODY_LIMIT
    assert server.post(body)[0] == 200


def test_a_body_in_chunks_is_refused_once_it_is_too_long(server):
    more = f"Origin: http://{server.host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(request(server, f"/{TOKEN}/act", "POST", more=more))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(BODY_LIMIT // 0x10000):
            connection.sendall(chunk)
        connection.sendall(b"1\r\n \r\n")
        assert first_answer(connection).startswith(b"HTTP/1.1 413 ")
        assert connection.recv(1) == b""  # no more is read
    body = b'7\r\n{"a": 1\r\n1\r\n}\r\n0\r\n\r\n'
    assert b"200 OK" in raw(server, request(server, f"/{TOKEN}/act", "POST", more=more) + body)


def test_no_answer_waits_for_slow_clients_or_for_a_long_action(tmp_path):
    with served(FakeSession(), {}) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        half = request(server, f"/{TOKEN}/act", "POST", more="Content-Length: 9\r\n")
        for place, connection in enumerate(slow):
            connection.sendall(half if place % 2 else half[:30])
        waiting = [threading.Thread(target=server.post, args=({"do": "wait"},)) for _ in range(12)]
        for thread in waiting:
            thread.start()
        until(lambda: server.session.done)
        began = time.monotonic()
        assert [server.ask(f"/thumb/{i % 6}")[0] for i in range(20)] == [200] * 20
        assert server.ask("/")[0] == server.ask("/group/1")[0] == 200
        assert time.monotonic() - began < 2
        assert len(server.session.done) == 1  # one action at a time
        server.session.gate.set()
        for thread in waiting:
            thread.join()
        assert len(server.session.done) == 12
        for connection in slow:
            connection.close()


def test_a_client_that_leaves_is_no_error(server, capfd):
    more = f"Origin: http://{server.host}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request(server, f"/{TOKEN}/act", "POST", more=more) + b"{")
            time.sleep(0.05)
    raw(server, b"\x16\x03\x01 not http\r\n\r\n")
    raw(server, request(server, f"/{TOKEN}/", more="Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    assert server.ask("/questions")[0] == 200
    assert capfd.readouterr() == ("", "")
