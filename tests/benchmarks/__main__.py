"""``python -m tests.benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import machine
from tests.benchmarks import watch as watching
from tests.benchmarks.backing import SETTINGS, STORES, Backing, words
from tests.benchmarks.catalogue import BENCHES, Bench
from tests.benchmarks.rounds import LEAST, Effort
from tests.benchmarks.rows import WIDTH, Json, Row, table
from tests.benchmarks.site import control_plane, site

REPORT = Path("build") / "benchmarks.json"
_WATCH = """\
`python -m tests.benchmarks watch` watches a long backlog for what must never be
seen; `watch --help` tells its options.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the report; 0 = done, 1 = a target was missed and ``--strict`` was given."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["watch"]:
        return _watch(given[1:])
    args = parser().parse_args(given)
    backing = Backing(args.store, args.store_config)
    effort = Effort(runs=args.runs or (2 if args.quick else 5), quick=args.quick, backing=backing)
    rows: list[Row] = []
    report = _report(rows, effort)
    say(f"beside each other on {words(report['store'])}")
    for bench in BENCHES:
        if not args.only or bench.name in args.only:
            rows += _run(bench, effort)
            report = {**report, "rows": [row.json() for row in rows]}
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report, indent=2) + "\n")
    shown = json.dumps(report, indent=2) if args.output == "json" else f"{_heading(report)}\n\n{table(rows)}"
    sys.stdout.write(f"{shown}\n")
    say(f"written to {args.json}")
    return int(args.strict and any(row.met is False for row in rows))


def _report(rows: Sequence[Row], effort: Effort) -> Json:
    return {
        "machine": machine.describe(),
        "store": effort.backing.describe(),
        "runs": effort.runs,
        "quick": effort.quick,
        "rows": [row.json() for row in rows],
    }


def _heading(report: Json) -> str:
    """Return what the figures were taken on."""
    on = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    taken = (
        f"{words(report['store'])}; {on['cores']} cores ({on['cpu']}), {on['memoryGiB']} GiB, {on['system']}, "
        f"Python {on['python']}, {versions}; load at the start {on['load']}; medians; "
        f"rounds: {report['runs']} (of claim and depth never fewer than {LEAST})"
    )
    quick = "quick: few and small runs, which show that it works, not how fast" if report["quick"] else ""
    return "\n".join(textwrap.fill(line, WIDTH) for line in (taken, quick) if line)


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
    sys.stdout.write("\n".join(seen.lines()) + "\n")
    return int(bool(seen.wrong))


def _run(bench: Bench, effort: Effort) -> list[Row]:
    say(f"{bench.name}: {bench.words}")
    started, before = time.monotonic(), machine.load()
    rows = list(bench.run(effort))
    say(f"  {time.monotonic() - started:.0f} s, load {before} -> {machine.load()}")
    return rows


def say(message: str) -> None:
    """Tell the person who waits; standard output is for what was found."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def _rounds(text: str) -> int:
    """Return a number of rounds; ``argparse`` tells what is wrong with any other."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds: give 1 or more")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    listed = "\n".join(
        textwrap.fill(f"  {bench.name:<10} {bench.words}", WIDTH, subsequent_indent=" " * 13) for bench in BENCHES
    )
    top = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures Heavylift beside RQ, BullMQ and bare loops on the API server.",
        epilog=f"{_WATCH}\nbenchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [bench.name for bench in BENCHES]
    top.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="only these")
    top.add_argument("--quick", action="store_true", help="few and small runs: does it work, not how fast")
    top.add_argument("--runs", type=_rounds, metavar="N", help="rounds of each side (default 5; 2 with --quick)")
    top.add_argument("--store", choices=STORES, default=Backing().store, help="what all sides run on (default redis)")
    top.add_argument(
        "--store-config", choices=SETTINGS, default=Backing().settings, help="its settings (default defaults)"
    )
    top.add_argument("-o", "--output", choices=("table", "json"), default="table", help="what is printed")
    top.add_argument("--json", type=Path, default=REPORT, metavar="FILE", help=f"the report (default {REPORT})")
    top.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return top


if __name__ == "__main__":
    sys.exit(main())
