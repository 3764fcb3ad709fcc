"""Compare the model with the scripts: ``python -m tests.model --sequences 20000 --seed 1 --store valkey``."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.model.sequences import dump, opened, play, replay, shrink
from tests.proofs import stores


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Play sequences of following seeds on each store asked for, until one does not match."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--sequences", type=int, default=500, help="on each store")
    parser.add_argument("--seed", type=int, default=None, help="of the first sequence; random when left out")
    parser.add_argument("--steps", type=int, default=60)
    stores.add_argument(parser)
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    for name, server in stores.each(asked):
        _say(f"{asked.sequences} sequences of {asked.steps} steps on {name}, seeds from {seed}")
        began = time.monotonic()
        found = _first_mismatch(server.url, range(seed, seed + asked.sequences), asked.steps)
        _say(found or f"all matched, in {time.monotonic() - began:.0f} s")
        if found:
            return 1
    return 0


def _first_mismatch(url: str, seeds: range, length: int) -> str:
    """Return the first mismatch with the steps that show it, shrunk; or nothing."""
    with opened(url) as store:
        for seed in seeds:
            steps, found = play(store, seed, length)
            if found:
                short = shrink(store, steps)
                return f"seed {seed}: {found}\n\nas short as it gets: {replay(store, short)}\n{dump(short)}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
