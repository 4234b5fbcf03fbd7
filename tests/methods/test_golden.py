"""Twenty steps of every method as they were: a refactor has to reproduce them.

After a change that is meant to change them: UPDATE_GOLDEN=1 pytest tests/methods/test_golden.py
"""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from every_method import METHODS, train

PATH = Path(__file__).parent / "golden.json"


@pytest.mark.parametrize("name", METHODS)
def test_twenty_steps_are_as_they_were(name, digits, network):
    # Five epochs of four steps; a learning rate at which something happens.
    curve = train(name, digits, *METHODS[name](digits, network), batch=75, epochs=5)
    golden = json.loads(PATH.read_text()) if PATH.exists() else {}
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(json.dumps({**golden, name: curve}, indent=1, sort_keys=True) + "\n")
        return
    assert len(curve) == len(golden[name])
    for row, expected in zip(curve, golden[name], strict=True):
        assert row == pytest.approx(expected, rel=5e-3, abs=1e-4)
    # Compared are rows of the same terms, those of one phase of a method that alternates; where labels are learned,
    # their term, since others may come into the loss as the run goes on.
    for terms in {frozenset(row) for row in curve}:
        falling = [row.get("labelled", row["loss"]) for row in curve if row.keys() == terms]
        assert len(falling) == 1 or falling[-1] < falling[0]
