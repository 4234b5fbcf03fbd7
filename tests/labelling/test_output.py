import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.labelling.output import KEPT, LONGEST, Output


def shown(*parts):
    output = Output()
    for part in parts:
        output.add(part.encode() if isinstance(part, str) else part)
    return output.lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\ntwo", ["one", "two"]),
        ("run:\n\tgit add\na\tb\n", ["run:", "        git add", "a       b"]),
        ("one\r\ntwo\r\n\n", ["one", "two"]),
        ("\x1b[1;32mgreen\x1b[0m\x1b]0;title\x07 text\x1b[K\n", ["green text"]),
        ("10 %\r20 %\rdone\nnext\n", ["done", "next"]),
        ("10 %\r20 %\r", ["20 %"]),
        (
            "scan: 10/90 images, 3/s\nscan: 20/90 images, 4/s\nscan: 90/90 images in 9 s\n",
            ["scan: 90/90 images in 9 s"],
        ),
        ("scan: 10/90 images\nscan: 20/9", ["scan: 10/90 images", "scan: 20/9"]),
        ("a: 1/2 images\nb: 1/2 images\nb: 2/2 images\n", ["a: 1/2 images", "b: 2/2 images"]),
        ("fold 1: accuracy 0.5\nfold 2: accuracy 0.6\n", ["fold 1: accuracy 0.5", "fold 2: accuracy 0.6"]),
        ("bell\x07 and \x00 null\n", ["bell and  null"]),
    ],
)
def test_what_a_terminal_would_show(text, lines):
    assert shown(text) == lines


@given(st.text(st.sampled_from("ab1/2 \r\n\x1b[m;é"), max_size=60), st.data())
def test_the_boundaries_of_the_parts_make_no_difference(text, data):
    whole = text.encode()
    cut = data.draw(st.integers(0, len(whole)))
    assert shown(whole[:cut], whole[cut:]) == shown(whole)


def test_only_the_last_lines_are_kept():
    assert shown(*(f"line {i}\n" for i in range(100)), "open") == [f"line {i}" for i in range(61, 100)] + ["open"]
    assert len(shown("\n".join(map(str, range(100))))) == KEPT


def test_a_line_without_end_does_not_fill_the_memory():
    output = Output()
    for _ in range(100):
        output.add(b"x" * LONGEST)
    assert len(output._open) <= 3 * LONGEST
    assert output.lines == ["x" * LONGEST]


def test_bytes_that_are_not_utf8_are_replaced():
    assert shown(b"caf\xe9\n") == ["caf�"]
