"""Compare the model with the scripts: ``python -m tests.model --sequences 20000 --seed 1 --store valkey``."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.model.sequences import dump, opened, play, replay, shrink
from tests.servers import redis_binary, running, valkey_binary

_BINARIES = {"redis": redis_binary, "valkey": valkey_binary}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Play sequences of following seeds until one does not match."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None, help="of the first sequence; random when left out")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--store", choices=sorted(_BINARIES), default="redis")
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    _say(f"{asked.sequences} sequences of {asked.steps} steps on {asked.store}, seeds from {seed}")
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(_BINARIES[asked.store](), Path(folder)) as server,
        opened(server.url) as store,
    ):
        for index in range(asked.sequences):
            steps, found = play(store, seed + index, asked.steps)
            if found:
                short = shrink(store, steps)
                _say(f"seed {seed + index}: {found}\n\nas short as it gets: {replay(store, short)}\n{dump(short)}")
                return 1
    _say(f"all matched, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
