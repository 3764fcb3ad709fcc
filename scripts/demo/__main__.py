"""``python -m scripts.demo up|down|env``: what `make demo` and `make demo-down` run."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence

from heavylift import Client, JobInfo
from heavylift.errors import BatchError, HeavyliftError
from scripts.demo import closing, install, watch
from scripts.demo.place import CLUSTER, JOBS_NAMESPACE, NAMESPACE, ROOT
from scripts.demo.shell import BOLD, DIM, PLAIN, RED, DemoError, complain, say, step
from tests.cluster import ClusterError, down

FIRST_YEAR, LAST_YEAR = 1977, 2026
EXAMPLES = """\
examples:
  python -m scripts.demo up                              what `make demo` does
  eval "$(.venv/bin/python -m scripts.demo env)"         kubectl, helm, heavylift and rq for this shell
  python -m scripts.demo down                            remove all of it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status: 0 done, 1 failed, 130 interrupted."""
    args = parser().parse_args(argv)
    try:
        {"up": _up, "down": _down, "env": _env}[args.verb](args)
    except (DemoError, ClusterError, HeavyliftError) as error:
        complain(f"{RED}error:{PLAIN} {error}")
        for inner in error.exceptions[:3] if isinstance(error, BatchError) else ():
            complain(f"    {inner}")
        return 1
    except KeyboardInterrupt:
        complain("\nstopped; what is up stays up: `make demo` goes on, `make demo-down` removes it")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m scripts.demo",
        description="A local Kubernetes, Heavylift installed by helm, some hundred real jobs, shown to a person.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    started = verbs.add_parser("up", help="bring everything up, run the jobs, show them; leaves it up")
    started.add_argument(
        "--years", nargs=2, type=int, default=(FIRST_YEAR, LAST_YEAR), metavar=("FIRST", "LAST"), help="years to report"
    )
    started.add_argument("--resamples", type=int, default=2500, help="work in each report (default 2500)")
    started.add_argument("--words", type=int, default=36, help="light jobs beside them (default 36)")
    verbs.add_parser("down", help="remove everything `up` made")
    verbs.add_parser("env", help="print shell lines that set up a shell for this demo")
    return top


def _up(args: argparse.Namespace) -> None:
    demo = install.bring_up()
    first, last = args.years
    with Client(demo.redis_url) as client:
        with step("Enqueue from Python"):
            jobs = watch.enqueue(client, range(first, last + 1), args.resamples)
            light = watch.enqueue_words(client, args.words)
            say(f"    {len(jobs)} reports, six of which cannot succeed, and {len(light)} light jobs in plain shell")
        infos, seen = watch.until_done([*jobs, *light], demo.cluster)
    _tell(demo, infos, seen)


def _tell(demo: install.Demo, infos: Sequence[JobInfo], seen: watch.Watch) -> None:
    say(f"\n{BOLD}Results{PLAIN}")
    for line in closing.results(infos, seen.ended or seen.seconds):
        say(f"  {line}")
    say(f"\n{BOLD}Autoscaling{PLAIN}")
    for line in closing.scaled(seen.scaling, seen.path):
        say(f"  {line}")
    say(f"\n{BOLD}Failed, and why{PLAIN}")
    for job, attempts, cls, message in closing.failures(infos):
        say(f"  {job}  {cls} after {attempts} attempt{'s' if attempts > 1 else ''}\n    {DIM}{message[:300]}{PLAIN}")
    path = closing.report_path(infos, install.reports_folder(demo.cluster))
    if path is not None:
        say(f"\n{BOLD}A finished report{PLAIN}\n  {path}\n  {path.with_suffix('.png')}")
    say(f"\n{BOLD}It stays up. Lines to try{PLAIN}")
    for command, shows in closing.lines_to_try(infos, ROOT, JOBS_NAMESPACE, NAMESPACE):
        say(f"  {command}\n      {DIM}# {shows}{PLAIN}")
    wrong = closing.unscaled(seen.scaling, seen.path, len(infos))
    if wrong:
        raise DemoError(wrong)


def _down(_: argparse.Namespace) -> None:
    with step("Removing the cluster, and with it Heavylift, its Redis and the reports"):
        down(CLUSTER, nodes="real")
    say("    removed; built programs and images stay in the cache for next time (see tests/cluster/README.md)")


def _env(_: argparse.Namespace) -> None:
    demo = install.running()
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), str(demo.cluster.layout.bin)])
    say(f"export KUBECONFIG={shlex.quote(str(demo.cluster.kubeconfig))}")
    say(f"export PATH={shlex.quote(path)}:$PATH")
    say(f"export HEAVYLIFT_REDIS_URL={shlex.quote(demo.redis_url)}")


if __name__ == "__main__":
    raise SystemExit(main())
