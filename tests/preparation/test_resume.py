"""A prepare that is killed: the next one goes on from what is written, and ends with the same bytes."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslpipe.decoding import decode
from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError
from sslpipe.preparation import store_writer
from sslpipe.preparation.growing_array import GrowingArray
from sslpipe.preparation.journal import Journal, Record
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder

RNG = np.random.default_rng(5)
COUNT = 40
CHUNK = 3
NAMES = (".out.journal", ".out.partial", ".out.lock", ".out.replaced")


class Arrays:
    """40 images of two classes, with pairs that are equal and a few that cannot be decoded."""

    settings = folder.Settings(path="arrays")
    classes = ("a", "b")
    entries = tuple(Entry(f"{i}", i % 2) for i in range(COUNT))
    notes = ()
    ignored: dict[str, int] = {}  # noqa: RUF012
    unreadable: dict[str, str] = {}  # noqa: RUF012
    images = [np.random.default_rng(i // 2).integers(0, 256, (7, 7, 3), dtype=np.uint8) for i in range(COUNT)]  # noqa: RUF012
    images[11] = images[30] = np.zeros((7, 7, 5), np.uint8)

    def load(self, index):
        return self.images[index]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(decode, "CHUNK_IMAGES", CHUNK)


@pytest.fixture
def decoded(monkeypatch):
    """The indices of the images that are decoded in this process; `stop_after` chunks Ctrl-C comes."""

    class Counted(list):
        stop_after = None

    found, decode_chunk = Counted(), decode.decode_chunk

    def counted(index, images, form):
        if found.stop_after == 0:
            raise KeyboardInterrupt
        found.stop_after = None if found.stop_after is None else found.stop_after - 1
        found.extend(index.tolist())
        return decode_chunk(index, images, form)

    monkeypatch.setattr(decode, "decode_chunk", counted)
    return found


def write(out, source=None, *, workers=1, strict=False, seed=0, **settings):
    settings = Settings(**{"size": 6, "channels": 3, **settings})
    return write_store(out, source or Arrays(), settings, protocol="split", seed=seed, workers=workers, strict=strict)


def interrupted(out, decoded, chunks, **settings):
    """Begin a store and stop after some chunks."""
    decoded.stop_after = chunks
    with pytest.raises(KeyboardInterrupt):
        write(out, **settings)
    assert len(decoded) == min(chunks * CHUNK, COUNT)
    decoded.stop_after = None
    decoded.clear()


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def left(out):
    return [name for name in NAMES if (out.parent / name).exists()]


def picture_folder(root: Path, count: int = 24) -> folder.Source:
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
    (root / "a/4.png").write_text("broken")
    Image.fromarray(RNG.integers(0, 60000, (9, 9), dtype=np.uint16)).save(root / "a/6.png")
    return folder.Source(folder.Settings(path=str(root)))


@pytest.mark.parametrize("store", ["pixels", "jpeg"])
@pytest.mark.parametrize("chunks", [1, 5, 10, 13])
def test_a_run_goes_on_where_it_was_stopped_and_decodes_nothing_twice(tmp_path, decoded, capsys, store, chunks):
    write(tmp_path / "whole", store=store)
    decoded.clear()
    out = tmp_path / "out"
    interrupted(out, decoded, chunks, store=store)
    assert not out.exists()
    assert left(out) == [".out.journal", ".out.partial"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "stopped" in line]
    done = int(line.split()[3])
    assert line == f"prepare: stopped after {done} of 40 images; the next run resumes there"
    write(out, store=store)
    assert f"prepare: resumed after {done} of 40 images\n" in capsys.readouterr().out
    assert len(set(decoded)) == len(decoded) == COUNT - done
    assert contents(out) == contents(tmp_path / "whole")
    assert left(out) == []


KILLS = """
import os, random, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from test_resume import CHUNK, COUNT, decode, write

rng, out, log = random.Random(int(sys.argv[4])), Path(sys.argv[2]), Path(sys.argv[2] + ".log")
decode_chunk = decode.decode_chunk


def counted(index, images, form):
    with log.open("a") as file:
        file.write("".join(f"{i}\\n" for i in index.tolist()))
    return decode_chunk(index, images, form)




def count(frame, event, argument):
    global calls
    if "/preparation/" in frame.f_code.co_filename or frame.f_code.co_filename.endswith("io/files.py"):
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)


decode.CHUNK_IMAGES, kills, calls, after = CHUNK, 0, 0, -1
sys.setprofile(count)
write(Path(sys.argv[2] + "-again"), store=sys.argv[3])
sys.setprofile(None)
decode.decode_chunk, total = counted, calls
while kills < 100:
    calls, after = 0, rng.randrange(round(1.1 * total))
    child = os.fork()
    if not child:
        sys.setprofile(count)
        write(out, store=sys.argv[3])
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    kills += 1
print(kills)
"""


@pytest.mark.parametrize(("store", "seed"), [(store, seed) for store in ("pixels", "jpeg") for seed in range(4)])
def test_killed_at_any_call_again_and_again_it_ends_with_the_same_bytes(tmp_path, store, seed):
    write(tmp_path / "whole", store=store)
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(Path(__file__).parent), str(out), store, str(seed)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr
    kills = int(run.stdout.splitlines()[-1])
    assert contents(out) == contents(tmp_path / "whole")
    assert left(out) == []
    # A chunk is lost by a kill at most: one that is decoded and not yet written.
    assert len((tmp_path / "out.log").read_text().splitlines()) <= COUNT + CHUNK * kills


def test_a_line_that_was_cut_anywhere_is_written_again(tmp_path, decoded):
    write(tmp_path / "whole")
    decoded.clear()
    out, path = tmp_path / "out", tmp_path / ".out.journal"
    interrupted(out, decoded, 3)
    whole = path.read_bytes()
    head, *before, last, _ = whole.split(b"\n")
    for length in range(len(last) + 1):
        path.write_bytes(b"\n".join([head, *before, last[:length]]))
        with Journal(out, head.decode(), COUNT) as journal:
            assert len(list(journal.records("train"))) == journal.done / CHUNK == 2
            journal.append(Record.of_line(last + b"\n"))
        assert path.read_bytes() == whole
    unfinished = contents(tmp_path / ".out.partial")
    for length in (0, 1, len(last) // 2, len(last) - 1, len(last)):
        path.write_bytes(b"\n".join([head, *before, last[:length]]))
        for name, content in unfinished.items():
            (tmp_path / ".out.partial" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / ".out.partial" / name).write_bytes(content)
        decoded.clear()
        write(out)
        assert len(decoded) == COUNT - 2 * CHUNK
        assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("store", ["pixels", "jpeg"])
@pytest.mark.parametrize("damage", ["zeros", "short", "gone", "no folder"])
def test_bytes_that_did_not_reach_the_disk_are_decoded_again(tmp_path, decoded, store, damage):
    """As after a power failure, or if someone deletes what is hidden."""
    write(tmp_path / "whole", store=store)
    decoded.clear()
    out = tmp_path / "out"
    interrupted(out, decoded, 6, store=store)
    path = tmp_path / ".out.partial/train/images.npy"
    data = path.read_bytes()
    # A byte of the fourth chunk, and all that follows.
    sizes = [sum(json.loads(line)[3]) for line in (tmp_path / ".out.journal").read_bytes().splitlines()[1:]]
    place = 128 + sum(sizes[:3]) + 1
    path.write_bytes(data[:place] + (b"" if damage == "short" else b"\0" * 10**5))
    if damage == "gone":
        path.unlink()
    if damage == "no folder":
        shutil.rmtree(tmp_path / ".out.partial")
    write(out, store=store)
    assert len(decoded) == COUNT - (3 * CHUNK if damage in ("zeros", "short") else 0)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_processes_may_be_more_or_fewer_than_before(tmp_path, monkeypatch, capsys, first, second):
    source = picture_folder(tmp_path / "pictures")
    write(tmp_path / "whole", source, channels=1)
    calls, append = [], GrowingArray.append

    def stop(self, data):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        append(self, data)

    monkeypatch.setattr(GrowingArray, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", source, channels=1, workers=first)
    write(tmp_path / "out", source, channels=1, workers=second)
    assert "prepare: resumed after 12 of 24 images\n" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"size": 5},
        {"channels": 1},
        {"store": "jpeg"},
        {"value_range": (0, 9)},
        "time",
        "name",
    ],
)
def test_other_settings_or_images_begin_anew(tmp_path, decoded, capsys, change):
    source = picture_folder(tmp_path / "pictures")
    out = tmp_path / "out"
    interrupted(out, decoded, 4, source=source)
    path = tmp_path / "pictures/b/3.png"
    if change == "time":
        os.utime(path, ns=(1, 1))
    if change == "name":
        path.rename(path.with_name("03.png"))
    source = folder.Source(folder.Settings(path=str(tmp_path / "pictures")))
    settings = change if isinstance(change, dict) else {}
    write(out, source, **settings)
    assert len(decoded) == 24
    said = capsys.readouterr().out
    assert "prepare: an unfinished run had other settings, images or code; it is deleted\n" in said
    assert "resumed" not in said
    write(tmp_path / "whole", source, **settings)
    assert contents(out) == contents(tmp_path / "whole")


def test_labels_and_what_is_drawn_from_them_may_change(tmp_path, decoded):
    """They are no part of what is decoded."""
    out = tmp_path / "out"
    interrupted(out, decoded, 4)
    write(out, labelled=store_writer.Labelled(per_class=2))
    assert len(decoded) == COUNT - 4 * CHUNK
    write(tmp_path / "whole", labelled=store_writer.Labelled(per_class=2))
    assert contents(out) == contents(tmp_path / "whole")


def test_code_that_changes_begins_anew(tmp_path, decoded, monkeypatch):
    out = tmp_path / "out"
    interrupted(out, decoded, 4)
    monkeypatch.setattr("sslpipe.preparation.journal._version", lambda library: "other")
    write(out)
    assert len(decoded) == COUNT


def test_a_full_disk_keeps_what_is_written_and_a_refusal_does_not(tmp_path, decoded, monkeypatch, capsys):
    out, calls, append = tmp_path / "out", [], GrowingArray.append

    def refuse(self, data):
        calls.append(1)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, data)

    monkeypatch.setattr(GrowingArray, "append", refuse)
    with pytest.raises(UserError, match="out: cannot be written: No space left on device"):
        write(out)
    assert "prepare: stopped after 12 of 40 images" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(decode, "CHUNK_IMAGES", CHUNK)
    with pytest.raises(UserError, match="2 of 40 images broken"):
        write(out, strict=True)
    assert left(out) == []
    assert not out.exists()


def test_the_last_store_stays_until_the_new_one_is_whole(tmp_path, decoded):
    out = tmp_path / "out"
    write(out)
    before = contents(out)
    decoded.clear()
    interrupted(out, decoded, 4, seed=1)
    assert contents(out) == before
    write(out, seed=1)
    assert contents(out) != before
