"""Let a crowd work: ``python -m tests.proofs.crowd --jobs 100000 --store valkey``; ``--json`` for machines."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys

from tests.proofs import stores
from tests.proofs.crowd.plan import PROCESSES, Bounds
from tests.proofs.crowd.run import Crowd, Verdicts, play, summary


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _told(store: str, found: Verdicts) -> str:
    pace = f"{found.seconds:,.1f} s ({found.jobs / found.seconds:,.0f} jobs/s)"
    lines = [
        f"{store}: {found.jobs:,} jobs, {found.starts:,} starts and {found.events:,} events in {pace}",
        f"  most at once: {found.most}",
        f"  claims held back by: {found.blocked}",
        f"  answers: {found.verdicts}; replies lost on purpose: {found.lost_replies}",
        f"  processor seconds: {found.cpu_s}",
    ]
    return "\n".join([*lines, *(found.broken or ["  every promise held"])])


def main(arguments: list[str]) -> int:
    """Let a crowd work on each store asked for, and say which promises it found broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.crowd", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="on each store, half of them in each queue")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    stores.add_argument(parser)
    parser.add_argument("--seed", type=int, default=None, help="of the processes' choices; random when left out")
    parser.add_argument("--cap", type=int, default=Bounds().cap)
    parser.add_argument("--limit", type=int, default=Bounds().limit, help="starts of a queue in any window")
    parser.add_argument("--period", type=int, default=Bounds().period, help="the window, ms")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    bounds = Bounds(cap=asked.cap, limit=asked.limit, period=asked.period)
    crowd = Crowd(jobs=asked.jobs // 2 * 2, processes=asked.processes, seed=seed, bounds=bounds)
    _say(f"{crowd.jobs:,} jobs, {crowd.processes} processes, seed {seed}")
    broken = False
    for store, server in stores.each(asked):
        with contextlib.closing(server.client()) as client:
            found = play(client, server.url, crowd, _say)
        broken = broken or bool(found.broken)
        sys.stdout.write(f"{json.dumps({'store': store, **summary(found)}) if asked.json else _told(store, found)}\n")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
