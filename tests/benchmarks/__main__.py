"""``python -m tests.benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import machine
from tests.benchmarks import watch as watching
from tests.benchmarks.catalogue import BENCHES, Bench
from tests.benchmarks.rounds import Effort
from tests.benchmarks.rows import Json, Row, table
from tests.benchmarks.site import control_plane, site

REPORT = Path("build") / "benchmarks.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 0 = done, 1 = a target was missed and ``--strict`` was given."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["watch"]:
        return _watch(given[1:])
    args = parser().parse_args(given)
    wanted = [bench for bench in BENCHES if not args.only or bench.name in args.only]
    effort = Effort(runs=args.runs or (2 if args.quick else 5), quick=args.quick)
    rows: list[Row] = []
    for bench in wanted:
        rows += _run(bench, effort)
        _write(args.json, rows, effort)
    say(f"\n{table(rows)}\n\nwritten to {args.json}")
    return int(args.strict and any(row.met is False for row in rows))


def _watch(argv: Sequence[str]) -> int:
    """Watch a long backlog under a controller-manager at its defaults; 1 = something was seen that must not be."""
    top = argparse.ArgumentParser(prog="python -m tests.benchmarks watch", description=_watch.__doc__)
    plan = watching.Plan()
    top.add_argument("--seconds", type=float, default=plan.seconds, help=f"how long (default {plan.seconds:g})")
    top.add_argument("--jobs", type=int, default=plan.jobs, help=f"jobs waiting at the start (default {plan.jobs})")
    top.add_argument("--width", type=int, default=plan.width, help=f"executions in flight (default {plan.width})")
    args = top.parse_args(argv)
    with control_plane(kcm_flags=()) as cluster, site(cluster) as here:
        seen = watching.run(here, watching.Plan(seconds=args.seconds, jobs=args.jobs, width=args.width))
    say("\n".join(seen.lines()))
    return int(bool(seen.wrong))


def _run(bench: Bench, effort: Effort) -> list[Row]:
    say(f"{bench.name}: {bench.words}")
    started, before = time.monotonic(), machine.load()
    rows = list(bench.run(effort))
    say(f"  {time.monotonic() - started:.0f} s, load {before} -> {machine.load()}")
    return rows


def _write(path: Path, rows: Sequence[Row], effort: Effort) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    report: Json = {
        "machine": machine.describe(),
        "runs": effort.runs,
        "quick": effort.quick,
        "rows": [row.json() for row in rows],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def say(words: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    listed = "\n".join(f"  {bench.name:<10} {bench.words}" for bench in BENCHES)
    top = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures Heavylift beside RQ, BullMQ and bare loops on the API server.",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [bench.name for bench in BENCHES]
    top.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="only these")
    top.add_argument("--quick", action="store_true", help="few and small runs: does it work, not how fast")
    top.add_argument("--runs", type=int, help="runs of each side (default 5; 2 with --quick)")
    top.add_argument("--json", type=Path, default=REPORT, help=f"where the report goes (default {REPORT})")
    top.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return top


if __name__ == "__main__":
    sys.exit(main())
