"""The cause among the ends of processes, without processes."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.io.errors import LOST
from sslpipe.io.process_ends import RESUMES, End, Outcome

KILL = -signal.SIGKILL


def outcome(*ends, signals=(), stderr=("", "", "")):
    """ends: rank and code, and "told" or "killed", in the order in which they ended."""
    made = [End(rank=rank, code=code, told=bool(how), killed="killed" in how) for rank, code, *how in ends]
    found = Outcome.of(made, signals, stderr)
    return found.code, found.line


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([(1, 0), (0, 0)], (0, "")),
        ([(0, 1), (1, LOST)], (1, "")),
        ([(1, LOST), (0, 3)], (3, "")),
        ([(1, KILL), (0, LOST)], (137, f"process 1 of 2 was killed (SIGKILL); all others were ended, {RESUMES}")),
        ([(0, -11), (1, LOST)], (139, f"process 0 of 2 was killed (SIGSEGV); all others were ended, {RESUMES}")),
        ([(1, -40), (0, LOST)], (168, f"process 1 of 2 was killed (signal 40); all others were ended, {RESUMES}")),
        ([(1, LOST), (0, KILL, "killed")], (1, f"process 0 of 2 did not answer; all others were ended, {RESUMES}")),
        # Of those that were ended, one that SIGTERM did not end.
        (
            [(0, LOST), (2, 143, "told"), (1, KILL, "killed")],
            (1, f"process 1 of 3 did not answer; all others were ended, {RESUMES}"),
        ),
        ([(1, LOST), (0, LOST)], (1, f"process 1 of 2 lost the others, none of which failed; {RESUMES}")),
        ([(1, 0), (0, LOST)], (1, f"process 0 of 2 lost the others, none of which failed; {RESUMES}")),
        # The user's error of all; of process 1 alone.
        ([(1, 2), (0, 2)], (2, "")),
        ([(1, 2), (0, 143, "told")], (2, "error: process 1 of 2: epochs: -1")),
        # Process 0 would have ended with the same code, but has met another error.
        ([(1, 1), (0, 1)], (1, "error: process 1 of 2: epochs: -1")),
    ],
)
def test_the_cause_and_its_code(ends, expected):
    stderr = "a warning\nerror: epochs: -1\n" if expected[1].startswith("error") else "a warning\n"
    assert outcome(*ends, stderr=("", stderr, "")) == expected


@pytest.mark.parametrize(
    ("ends", "signals", "code"),
    [
        ([(1, 130), (0, 130)], [2], 130),
        ([(1, -2), (0, -2)], [2], 130),  # while the libraries are loaded
        ([(1, 143), (0, 0)], [15], 0),  # process 0 had written its outputs
        ([(1, -15), (0, LOST)], [15], 143),
        ([(1, 143), (0, 130)], [2, 15], 130),
    ],
)
def test_an_end_in_order_after_a_signal_has_no_line(ends, signals, code):
    assert outcome(*ends, signals=signals) == (code, "")


def test_a_failure_after_a_signal_is_still_one():
    assert outcome((1, KILL), (0, 130), signals=[2])[0] == 137
    assert outcome((0, 130), (1, KILL, "killed"), signals=[2, 2]) == (
        130,
        f"process 1 of 2 did not answer; all others were ended, {RESUMES}",
    )
    assert outcome((1, 143), (0, 143, "told"), stderr=["", "stopped by SIGTERM\n"]) == (
        143,
        "process 1 of 2: stopped by SIGTERM",
    )


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("", "ended with exit code 7, without a message"),
        ("first\nlast\n\n", "last"),
        ("error: a\nwarning: b\n", "a"),
        (
            'Traceback (most recent call last):\n  File "x.py", line 1\nZeroDivisionError: division by zero\n'
            "[W1130 ProcessGroup.cpp] Warning: destroy_process_group() was not called\n",
            "ZeroDivisionError: division by zero",
        ),
        (
            "[rank1]: Traceback (most recent call last):\n[rank1]:   File x\n[rank1]: KeyError: 'a'\n\n"
            "[rank1]: During handling of the above exception, another exception occurred:\n\n"
            "[rank1]: Traceback (most recent call last):\n[rank1]:   File x\n[rank1]: ValueError: b\n[rank1]: more\n",
            "ValueError: b",
        ),
        ("Traceback (most recent call last):\n  cut off\n", "cut off"),
    ],
)
def test_the_message_of_a_process(stderr, message):
    code, line = outcome((1, 7), (0, LOST), stderr=("", stderr))
    start = "error: " if stderr.startswith("error: ") else ""
    assert (code, line) == (7, f"{start}process 1 of 2: {message}")


def test_an_abort_after_an_exception_names_both():
    stderr = "Traceback (most recent call last):\n  File x\nValueError: b\nterminate called\n"
    line = f"process 1 of 2 was killed (SIGABRT after 'ValueError: b'); all others were ended, {RESUMES}"
    assert outcome((1, -signal.SIGABRT), (0, LOST), stderr=("", stderr)) == (134, line)
    line = f"process 1 of 2 was killed (SIGABRT after 'what():  y'); all others were ended, {RESUMES}"
    assert outcome((1, -signal.SIGABRT), (0, LOST), stderr=("", "terminate called\n  what():  y\n")) == (134, line)
    line = f"process 1 of 2 was killed (SIGSEGV); all others were ended, {RESUMES}"
    assert outcome((1, -signal.SIGSEGV), (0, LOST), stderr=("", "a warning\n")) == (139, line)


CODES = st.sampled_from([0, 1, 2, LOST, 130, 143, -2, -9, -15])


@given(
    ends=st.permutations(range(3)).flatmap(
        lambda ranks: st.tuples(*[st.tuples(st.just(rank), CODES, st.booleans()) for rank in ranks])
    ),
    signals=st.lists(st.sampled_from([2, 15]), max_size=2),
)
def test_zero_only_without_a_failure_and_one_line_wherever_process_0_printed_none(ends, signals):
    made = [End(rank=rank, code=code, told=told) for rank, code, told in ends]
    found = Outcome.of(made, signals, ["", "x\n", "y\n"])
    codes = {rank: code for rank, code, _ in ends}
    told = {rank: told for rank, _, told in ends}
    if found.code == 0:
        assert codes[0] == 0
        assert signals or set(codes.values()) == {0}
    assert 0 <= found.code < 256
    assert "\n" not in found.line
    if not signals and (codes[0] <= 0 or codes[0] == LOST) and any(codes.values()):
        assert found.line
    if found.line and not any(told.values()):
        assert codes[found.cause] not in (0,)
