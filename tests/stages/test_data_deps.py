"""What stages read under runs/ against the data deps of dvc.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from import_closure import stages


def covers(dep, path):
    return path == dep or dep in path.parents


ON_FEATURES = {Path("runs/features"), Path("runs/mine-neighbors")}
"""What only those methods read, of the stages below, whose Settings say `reads_features` or `prefers_features`."""
TREES = {Path("runs/cluster/merges.npy"), Path("runs/self-label/merges.npy")}
"""What evaluate reads with `evaluate.groups` alone."""


def test_every_file_read_is_a_dep_and_no_dep_can_be_deleted(opened, tiny):
    for stage, content in stages(tiny).items():
        deps = {Path(dep) for dep in content["deps"] if dep.startswith("runs/")}
        if "@" in stage:
            # A start from scratch is written as one from prepare; what is read of that is listed file by file.
            deps.discard(Path("runs/prepare"))
        deps -= TREES if stage == "evaluate" else set()
        files = {path for path in opened[stage] if path.parts[0] == "runs" and "/." not in str(path)}
        files = {path for path in files if not covers(Path(content["outs"][0]), path)}  # its end counts their rows
        if stage.startswith(("self-label", "semisup", "finetune")) and not any(
            path.parts[1] == "features" for path in files
        ):
            deps = {dep for dep in deps if not any(covers(each, dep) for each in ON_FEATURES)}
            if stage == "self-label":  # its clusters merge by the neighbours, whatever the method reads
                deps |= {Path("runs/mine-neighbors/card.json"), Path("runs/mine-neighbors/train")}
        missing = {path for path in files if not any(covers(dep, path) for dep in deps)}
        assert not missing, f"{stage} reads what is no dep"
        for dep in deps:
            needed = [path for path in files if covers(dep, path) and not any(covers(d, path) for d in deps - {dep})]
            assert needed, f"{stage} does not read {dep}"
