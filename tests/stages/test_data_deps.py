"""What stages read under runs/ against the data deps of dvc.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from import_closure import stages


def covers(dep, path):
    return path == dep or dep in path.parents


SHARED = {"semisup": {Path("runs/features"), Path("runs/mine-neighbors")}}
"""Stage → deps that some of its methods read alone."""


def test_every_file_read_is_a_dep_and_no_dep_can_be_deleted(opened, tiny):
    unread = {(stage, dep) for stage, deps in SHARED.items() for dep in deps}
    for stage, content in stages(tiny).items():
        name = stage.partition("@")[0]
        deps = {Path(dep) for dep in content["deps"] if dep.startswith("runs/")}
        if "@" in stage:
            # A start from scratch is written as one from prepare; what is read of that is listed file by file.
            deps.discard(Path("runs/prepare"))
        files = {path for path in opened[stage] if path.parts[0] == "runs" and "/." not in str(path)}
        missing = {path for path in files if not any(covers(dep, path) for dep in deps)}
        assert not missing, f"{stage} reads what is no dep"
        unread -= {(name, dep) for dep in SHARED.get(name, ()) if any(covers(dep, path) for path in files)}
        for dep in deps - SHARED.get(name, set()):
            needed = [path for path in files if covers(dep, path) and not any(covers(d, path) for d in deps - {dep})]
            assert needed, f"{stage} does not read {dep}"
    assert not unread, "no method of the stage reads these"
