import hashlib
import http.server
import io
import os
import tarfile
import threading
import urllib.request
from functools import partial
from urllib.error import URLError

import pytest

from sslpipe.io.errors import UserError
from sslpipe.preparation.downloads import Download, ensure, read_verified


def md5(content):
    return hashlib.md5(content).hexdigest()


def archive(files):
    """The bytes of a .tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


FILES = {"set/a.bin": b"first", "set/b.bin": b"second", "set/names.txt": b"x y"}
EXPECTED = {name: None if name.endswith("txt") else md5(content) for name, content in FILES.items()}
PACKED = archive(FILES)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder whose files can be fetched, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def published(url, *, content=PACKED, name="set.tar.gz", unpack=True):
    return Download(url=f"{url}/{name}", filename=name, md5=md5(content), size="3 kB", unpack=unpack)


def refused(root, source, files=EXPECTED, *, fetch=True):
    with pytest.raises(UserError) as raised:
        ensure(root, files, source, where="prepare.set", fetch=fetch)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_an_archive_is_fetched_and_unpacked_when_asked_for(tmp_path, served, capsys):
    folder, url = served
    (folder / "set.tar.gz").write_bytes(PACKED)
    root = tmp_path / "new" / "data"
    message = refused(root, published(url), fetch=False)
    assert (
        f"{root} does not exist, expected set/a.bin in it; prepare.set.download: true fetches 3 kB from 127.0.0.1"
        in message
    )
    assert not root.exists()
    ensure(root, EXPECTED, published(url), where="prepare.set", fetch=True)
    assert {name: (root / name).read_bytes() for name in FILES} == FILES
    assert f"fetching {url}/set.tar.gz (3 kB) into {root}" in capsys.readouterr().out


def test_a_file_is_fetched_as_it_is(tmp_path, served):
    folder, url = served
    (folder / "a.mat").write_bytes(b"digits")
    source = published(url, content=b"digits", name="a.mat", unpack=False)
    (tmp_path / "a.mat").write_bytes(b"cut o")
    assert "a.mat is truncated or changed" in refused(tmp_path, source, {"a.mat": md5(b"digits")}, fetch=False)
    ensure(tmp_path, {"a.mat": md5(b"digits")}, source, where="prepare.set", fetch=True)
    assert (tmp_path / "a.mat").read_bytes() == b"digits"


def test_nothing_is_fetched_where_all_is_there(tmp_path, offline, capsys):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    ensure(tmp_path, EXPECTED, published("http://host"), where="prepare.set", fetch=True)
    assert capsys.readouterr().out == ""


def test_an_archive_that_was_fetched_elsewhere_needs_no_connection(tmp_path, offline, capsys):
    source = published("https://host.example")
    assert refused(tmp_path, source) == (
        "prepare.set.download: no connection to host.example (no route); fetch https://host.example/set.tar.gz "
        f"elsewhere and put it in {tmp_path} (prepare.set.download: true then unpacks it)"
    )
    capsys.readouterr()
    (tmp_path / "set.tar.gz").write_bytes(PACKED)
    ensure(tmp_path, EXPECTED, source, where="prepare.set", fetch=True)
    assert (tmp_path / "set/b.bin").read_bytes() == b"second"
    assert capsys.readouterr().out == ""


def test_no_such_address_and_no_such_host(tmp_path, served):
    _, url = served
    assert "no connection to 127.0.0.1 (HTTP status 404 File not found)" in refused(tmp_path, published(url))
    unreachable = published("http://127.0.0.1:1")
    assert "no connection to 127.0.0.1 (Connection refused)" in refused(tmp_path, unreachable)


def test_what_was_sent_is_another_file(tmp_path, served):
    folder, url = served
    (folder / "set.tar.gz").write_bytes(PACKED[:-9])
    message = refused(tmp_path, published(url))
    assert f"{tmp_path / 'set.tar.gz'}: the file from 127.0.0.1 is not the published one" in message
    assert not (tmp_path / "set").exists()


def test_an_archive_without_the_files(tmp_path, served):
    folder, url = served
    packed = archive({"set/a.bin": b"first"})
    (folder / "set.tar.gz").write_bytes(packed)
    message = refused(tmp_path, published(url, content=packed))
    assert message == f"prepare.set.root: {tmp_path / 'set/b.bin'} does not exist, even after set.tar.gz was unpacked"


def test_what_cannot_be_read_or_written(tmp_path, served):
    folder, url = served
    (folder / "set.tar.gz").write_bytes(PACKED)
    (tmp_path / "file").touch()
    message = refused(tmp_path / "file" / "data", published(url))
    assert "cannot be read: Not a directory" in message or "cannot be written: Not a directory" in message
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set/a.bin")
    assert "set/a.bin cannot be read: Is a pipe" in refused(tmp_path, published(url), fetch=False)


def test_only_the_published_content_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert read_verified(tmp_path / "a", md5(b"content")) == b"content"
    with pytest.raises(UserError, match=r"/a: not the published file: its md5 is not"):
        read_verified(tmp_path / "a", md5(b"other"))
