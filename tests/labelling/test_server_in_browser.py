"""The labelling page's server in Chromium: its own page may do everything, pages of other addresses nothing."""

import functools
import http.server
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from browser import browser, skip_without
from fake_session import TOKEN, FakeSession, served

skip_without()
POST = """async ([url, mode]) => {
  try {
    const headers = {"Content-Type": "application/json"};
    const answer = await fetch(url, {method: "POST", headers, body: '{"do": "x"}', ...(mode ? {mode} : {})});
    return answer.status;
  } catch (error) { return error.name; }
}"""
FOREIGN = """async (url) => {
  const found = [];
  for (const kind of ["img", "script", "iframe"]) {
    found.push(await new Promise((done) => {
      const element = document.createElement(kind);
      element.onload = () => done("loaded"); element.onerror = () => done("refused");
      element.src = url + {img: "thumb/1", script: "assets/a.js", iframe: ""}[kind];
      document.body.append(element);
    }));
  }
  for (const [method, mode] of [["GET", "cors"], ["POST", "cors"], ["POST", "no-cors"], ["GET", "no-cors"]]) {
    try {
      const answer = await fetch(url + (method == "POST" ? "act" : "questions"), {method, mode});
      found.push(answer.type);
    } catch (error) { found.push(error.name); }
  }
  return found;
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "a.css").write_text("p { color: rgb(1, 2, 3) }")
    (tmp_path / "a.js").write_text("document.documentElement.dataset.ran = 1;")
    with served(FakeSession(), {name: tmp_path / name for name in ("a.css", "a.js")}) as found:
        yield found


def test_the_page_may_act_and_pages_of_other_addresses_may_not(server, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><body>other")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other, browser() as launched:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = launched.new_page()
        for host in (server.host, f"localhost:{server.port}"):
            url = f"http://{host}/{TOKEN}/"
            page.goto(url)
            assert page.evaluate("document.documentElement.dataset.ran") == "1"
            assert page.evaluate(POST, [url + "act", None]) == 200
            assert page.evaluate("fetch('questions').then((answer) => answer.status)") == 200
            assert page.evaluate("fetch('thumb/1').then((answer) => answer.status)") == 200
        count = len(server.session.done)
        assert count == 2
        for host in ("127.0.0.1", "localhost"):
            page.goto(f"http://{host}:{other.server_address[1]}/")
            for name in (server.host, f"localhost:{server.port}"):
                url = f"http://{name}/{TOKEN}/"
                image, script, frame, *fetched = page.evaluate(FOREIGN, url)
                assert (image, script) == ("refused", "refused")
                assert fetched == ["TypeError"] * 4
                assert all(found.url != url or "fake" not in found.content() for found in page.frames[1:]), frame
                assert page.evaluate(POST, [url + "act", None]) == "TypeError"
        assert len(server.session.done) == count
        other.shutdown()
