"""Settings with one mistake each: every one is read as it stands or refused in one line that names the key."""

import random
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from sslpipe.io.errors import UserError
from sslpipe.io.params import Params

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recipe_runs import ALONE, PACKAGES, parsed

ROOT = Path(__file__).parents[2]
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one in C takes less time
OTHERS = [
    None, True, "", "x", "-1", -1, 0, 0.5, 1, 1.5, 10**30, -1e300, float("nan"), float("inf"), [], [1], [[]], {},
    {"a": 1}, {"method": "simclr"}, "1e-3", "0x10", "2026-11-29", "é\U0001f600", "null ", {1: 2}, {None: 1},
]  # fmt: skip


def places(tree, above=()):
    """All keys of a tree, as paths."""
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def mutated(tree, chance):
    """A tree with one mistake, and the key that it is at."""
    tree = deepcopy(tree)
    *above, key = chance.choice(list(places(tree)))
    block = tree
    for part in above:
        block = block[part]
    kind = chance.choice(["value", "value", "value", "rename", "add", "remove", "move"])
    if kind == "value":
        block[key] = chance.choice(OTHERS)
    elif kind == "rename":
        letters = list(str(key))
        letters[chance.randrange(len(letters))] = chance.choice("aexz_.é ")
        block["".join(letters)] = block.pop(key)
    elif kind == "add":
        block[chance.choice(["epochs", "lr", "zzz", 7, "name ", "fit"])] = chance.choice(OTHERS)
    elif kind == "remove":
        del block[key]
    else:
        tree[key] = block.pop(key) if above else block[key]
    return tree, [*above, key]


@pytest.mark.parametrize("batch", range(3))
def test_a_mistake_is_read_as_it_stands_or_refused_in_one_line_that_names_its_block(tmp_path, batch):
    whole = yaml.safe_load((ROOT / "params.yaml").read_text())
    refused = 0
    for number in range(100):
        chance = random.Random(1000 * batch + number)
        tree, where = mutated(whole, chance)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.dump(tree, Dumper=DUMPER, allow_unicode=True), encoding="utf-8")
        try:
            project = Params(path)
            project.check_stages({**ALONE, **PACKAGES})
            parsed(project)
        except UserError as error:
            refused += 1
            line = str(error)
            assert "\n" not in line
            assert any(str(part) in line for part in where) or str(path) in line, (where, line)
    assert refused > 20
