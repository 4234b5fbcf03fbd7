"""What stages read under runs/ against the data deps of dvc.yaml."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def covers(dep, path):
    return path == dep or dep in path.parents


@pytest.mark.parametrize("stage", list(STAGES))
def test_every_file_read_is_a_dep_and_no_dep_can_be_deleted(opened, stage):
    deps = [Path(dep) for dep in STAGES[stage]["deps"] if dep.startswith("runs/")]
    files = {path for path in opened.get(stage, ()) if path.parts[0] == "runs" and not path.parts[1].startswith(".")}
    assert {path for path in files if not any(covers(dep, path) for dep in deps)} == set()
    for dep in deps:
        rest = [other for other in deps if other != dep]
        needed = [path for path in files if covers(dep, path) and not any(covers(other, path) for other in rest)]
        assert needed, f"{stage} does not read {dep}"
