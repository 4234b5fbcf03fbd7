"""Speed, side by side with what a user would pick instead: `make bench`, or `python -m benchmarks steps views --quick`.

A part is a module of this folder with a function `measure(options) -> list[Table]`.
"""

import argparse
import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path

import torch

import benchmarks
from benchmarks.report import Options
from sslpipe.data.device import choose_device

HELPERS = {
    *(
        "__main__",
        "asking",
        "cluster_methods",
        "collections",
        "cost_beside",
        "cost_terms",
        "fake_backward",
        "fake_gpu",
        "feature_scale",
        "few_labels",
        "labelling",
        "growth_evaluation",
        "growth_search",
        "growth_stages",
        "growth_training",
        "forms",
        "kills",
        "measure",
        "pretexts",
        "report",
        "terminal_pictures",
    ),
}


def is_part(name: str) -> bool:
    return name not in HELPERS and not name.startswith("growth_")  # those are measured by the part growth


def parts() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if is_part(module.name)]


def machine(device: torch.device) -> dict[str, object]:
    cpu = next(
        (line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts())}; all without a name")
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figures to quote")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="written with all figures")
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(parts()))
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}, expected some of {', '.join(parts())}")
    options = Options(choose_device(given.device), given.quick)
    found: dict[str, object] = {"machine": machine(options.device), "quick": options.quick}
    print(", ".join(f"{key} {value}" for key, value in machine(options.device).items()), flush=True)
    for name in given.parts or parts():
        tables = importlib.import_module(f"benchmarks.{name}").measure(options)
        found[name] = [table.json() for table in tables]
        for table in tables:
            print(f"\n{table.markdown()}", flush=True)
        # After each part: what was measured is not lost when a later one fails.
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
