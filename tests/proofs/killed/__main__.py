"""Kill clients and audit what they leave: ``python -m tests.proofs.killed --kills 1000 --store valkey``."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys

from tests.proofs import stores
from tests.proofs.killed.run import Deaths, after_each_script, random_kills


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _tell(what: str, found: Deaths) -> bool:
    sys.stdout.write(
        f"{what}: {found.kills} killed, {found.acts:,} events; audits met {found.found_running} executions and "
        f"{found.found_held} deduplication keys of the dead\n"
    )
    sys.stdout.write("\n".join([*found.broken, f"  {len(found.broken)} leaks or halves"]) + "\n")
    return bool(found.broken)


def main(arguments: list[str]) -> int:
    """Kill at random moments, then after each script of a tour, on each store asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.killed", description=__doc__)
    parser.add_argument("--kills", type=int, default=400, help="at random moments, on each store")
    stores.add_argument(parser)
    parser.add_argument("--seed", type=int, default=None, help="random when left out")
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    _say(f"seed {seed}")
    broken = False
    for store, server in stores.each(asked):
        with contextlib.closing(server.client()) as client:
            found = random_kills(client, server.url, kills=asked.kills, seed=seed, say=_say)
            broken = _tell(f"{store}, at random moments", found) or broken
            client.flushall()
            broken = _tell(f"{store}, after each script", after_each_script(client, server.url, seed=seed)) or broken
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
