import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.io import console

LONGEST = ["self_label.confident", "semisup.alternation", "cluster.scan", "pretrain.moco"]
SCRIPT = """
import time
from sslpipe.io.console import info, progress
with progress({title!r}, 128_116_700, "images") as bar:
    for step in range(12):
        bar.advance(512, note="epoch 12  loss 0.4321 (chance 2.303)" if step > 2 else None)
        time.sleep(0.1)
        if step == 6:
            info("a line between")
"""


def test_plain_lines_tell_rate_and_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("work", 100, "images", done=20) as bar:
        now[0] += 20
        bar.advance(40, note="loss 1.5")
        now[0] += 1
        bar.advance(20)
        now[0] += 1
        bar.advance(20)
    first, last = capsys.readouterr().out.splitlines()
    assert first == "work: 60/100 images, 2.0/s, 20 s left  loss 1.5"
    assert last == "work: 100/100 images in 22 s, 3.6/s  loss 1.5"


def test_short_work_says_nothing(capsys):
    with console.progress("work", 1, "images") as bar:
        bar.advance()
    assert capsys.readouterr().out == ""


def test_without_a_title_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_LINE_SECONDS", 0.0)
    with console.progress("", 3, "images") as bar:
        bar.advance(3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (99.4, "99 s"),
        (99.6, "1:40"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (35_999, "9:59:59"),
        (36_000, "10 h"),
        (360_000, "100 h"),
    ],
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


words = st.text("abcdefgh_.", min_size=1, max_size=30)


@given(words, st.text("0123456789/", max_size=30), st.floats(0, 1e6), st.floats(0, 1e9), words, st.integers(20, 200))
def test_a_live_line_is_never_longer_than_the_terminal(title, count, rate, seconds, note, width):
    given = (title, count, f"{rate:.0f}/s", console.duration(seconds), note, width)
    shown, bar, numbers = console.fitted(*given)
    assert len(shown) + len(numbers) + (bar + 2 if bar else 1) <= max(width, len(shown) + 1)
    assert title.endswith(shown)


@pytest.mark.parametrize(("title", "loss"), [*((title, "0.4321") for title in LONGEST), ("cluster.scan", "-20.23")])
@pytest.mark.parametrize(("left", "spelled"), [("2:10", "2:10 left"), ("1:02:10", "  1:02:10")])
def test_80_columns_have_room_for_everything_but_the_count(title, loss, left, spelled):
    note = f"epoch 12  loss {loss} (chance 2.303)"
    shown, bar, numbers = console.fitted(title, "500/1000 images", "12345/s", left, note, 79)
    assert shown == title
    assert bar >= console.SHORT_BAR
    assert numbers == f"12345/s {spelled} {note.replace('  ', ' ')}"


def on_terminal(source, columns):
    """What a script writes on a terminal of that many columns, without colours, as the lines it draws."""
    child, terminal = pty.fork()
    if not child:
        os.environ.pop("COLUMNS", None)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execve(sys.executable, [sys.executable, "-c", source], os.environ | {"TERM": "xterm"})
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the end of a terminal, on Linux
            break
        if not part:
            break
        written += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_on_a_terminal_one_line_is_drawn_again_and_removed():
    lines = on_terminal(SCRIPT.format(title="self_label.confident"), 80)
    assert max(map(len, lines)) < 80
    assert "a line between" in lines
    *_, drawn, last, rest = lines
    assert last.startswith("self_label.confident: 6144/128116700 images in 1 s, ")
    assert rest.startswith("  ")
    assert drawn.startswith("self_label.confident ────")
    assert drawn.endswith("epoch 12 loss 0.4321 (chance 2.303)")


def test_long_lines_are_broken_between_words_on_a_terminal():
    words = [f"word{number}" for number in range(30)]
    lines = on_terminal(f"from sslpipe.io.console import info; info({' '.join(words)!r})", 40)
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).split() == words
    assert all(line.startswith("  word") for line in lines[1:])


@given(st.text(st.sampled_from("ab -/"), max_size=200), st.integers(20, 100))
def test_broken_lines_have_all_words(line, width):
    broken = console.wrapped(line, width)
    assert broken.split() == line.split()
    assert all(len(each) <= width or len(each.split()) == 1 for each in broken.splitlines())
