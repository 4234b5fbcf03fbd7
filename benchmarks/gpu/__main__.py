"""Checks and measurements on one GPU: `make gpu`, or `python -m benchmarks.gpu [PART ...]`; docs/gpu.md says more.

A part is a module of this folder with a function `measure(plan, facts) -> Outcome`. A part that is complete is not done
again; one that fails or runs out of time is continued by the next call. Exit code: 0 when all parts asked for are
complete, or not possible, as a line says; 1 when something is BAD or a part failed; 2 for wrong input; 3 when the time
was not enough: call again.
"""

import argparse
import copy
import importlib
import signal
import sys
import time
import traceback
from pathlib import Path

from benchmarks.gpu.plan import PARTS, Outcome, Plan, Results
from sslpipe.data.device import choose_device
from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest, one_line
from sslpipe.io.interrupts import stoppable

EVERY_TIME = ("device", "table")
"""Parts that take no time and are done in every call that asks for them."""
BAD, AGAIN = 1, 3


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without a name")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder to write: results.json and runs")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="this call ends within so many (default %(default)s)"
    )
    parser.add_argument("--images", type=Path, help="CIFAR-10 as files: train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument(
        "--training-minutes", type=float, default=25.0,
        help="minutes of training of the part cifar10, over all calls (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with --tiny (default %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="see that it runs; no figures to quote")
    return parser.parse_args(given)


def plan_of(given: argparse.Namespace) -> Plan:
    """Return the plan of a call. Raises UserError for arguments that do not fit."""
    for name in given.parts:
        if name not in PARTS:
            raise UserError(f"unknown part '{name}'{nearest(name, PARTS)}")
    for option in ("minutes", "training_minutes"):
        if not getattr(given, option) > 0:
            raise UserError(f"--{option.replace('_', '-')}: {getattr(given, option)} found, expected more than 0")
    if given.images is not None and not (given.images / "train").is_dir():
        raise UserError(f"--images {given.images}: expected a folder with train/ and test/")
    device = choose_device(given.device)
    if device.type != "cuda" and not given.tiny:
        raise UserError(f"--device {given.device}: without a GPU only a rehearsal is possible, with --tiny")
    return Plan(
        device=device,
        tiny=given.tiny,
        out=given.out.absolute(),
        images=given.images and given.images.absolute(),
        training_minutes=given.training_minutes,
        ends=time.monotonic() + 60 * given.minutes,
    )


def run(plan: Plan, results: Results, names: list[str]) -> int:
    """Run parts until all are complete or the time is up, and return the exit code."""
    failed = unfinished = False
    for name in names:
        before = results.parts.get(name, {})
        if before.get("done") and name not in EVERY_TIME:
            _print(name, f"{before['line']} (done before)", before["bad"])
            continue
        if plan.is_over and name not in EVERY_TIME:
            unfinished = True
            info(f"{name}: no time left in this call")
            continue
        began, facts = time.monotonic(), copy.deepcopy(results.facts(name))
        try:
            outcome = importlib.import_module(f"benchmarks.gpu.{name}").measure(plan, facts)
        except KeyboardInterrupt:
            results.keep(name, Outcome("stopped", done=False), facts, (time.monotonic() - began) / 60)
            raise
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            failed, outcome = True, Outcome(f"failed: {one_line(error)}", done=False)
        results.keep(name, outcome, facts, (time.monotonic() - began) / 60)
        unfinished |= not outcome.done and outcome.possible
        _print(name, outcome.line, outcome.bad)
    if failed or any(results.parts.get(name, {}).get("bad") for name in names):
        return BAD
    if unfinished:
        info("not all parts are complete: call again")
        return AGAIN
    return 0


def _print(name: str, line: str, bad: tuple[str, ...] | list[str]) -> None:
    for each in bad:
        info(f"{name}: BAD: {each}")
    info(f"{name}: {line}")


def main(given: list[str] | None = None) -> int:
    """Run the plan and return the exit code."""
    try:
        options = arguments(given)
        plan = plan_of(options)
        # The part table reads what the others have found.
        setup = {"device": plan.device.type, "tiny": plan.tiny}
        results = Results.read(plan.out / "results.json", setup)
        with stoppable():
            return run(plan, results, options.parts or list(PARTS))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
