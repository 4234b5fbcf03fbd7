import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.labelling.changes import SHOWN, changes

NAMES = st.sampled_from(["", "ant", "bee", "cow"])
IMAGES = st.lists(st.tuples(NAMES, NAMES, st.sampled_from([0.2, 0.5, 0.9])), max_size=80)


@given(IMAGES)
def test_rows_are_those_of_a_plain_loop(images):
    before, after = [old for old, _, _ in images], [new for _, new, _ in images]
    confidence = np.array([each for _, _, each in images])
    found = changes(before, after, confidence)
    expected = {}
    for image, (old, new, sure) in enumerate(images):
        if old and old != new:
            expected.setdefault((old, new), []).append((-sure, image))
    assert {(row["from"], row["to"]): row["count"] for row in found} == {pair: len(e) for pair, e in expected.items()}
    for row in found:
        assert row["images"] == [image for _, image in sorted(expected[row["from"], row["to"]])][:SHOWN]
    assert [row["count"] for row in found] == sorted((row["count"] for row in found), reverse=True)


def test_the_most_frequent_change_is_first():
    before = ["cat"] * 20 + ["dog"] * 3 + ["cow"] * 5
    after = ["dog"] * 20 + ["cat"] * 3 + ["cow"] * 5
    found = changes(before, after, np.arange(28) / 28)
    assert found == [
        {"from": "cat", "to": "dog", "count": 20, "images": list(range(19, 7, -1))},
        {"from": "dog", "to": "cat", "count": 3, "images": [22, 21, 20]},
    ]


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="2 names before, 1 after"):
        changes(["a", "b"], ["a"], np.ones(2))
