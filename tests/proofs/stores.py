"""The stores that the commands of the proofs play on: ``--store redis``, ``valkey``, or both, one after the other."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers import BINARIES, StoreServer, running


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Give a command its option ``--store``."""
    parser.add_argument("--store", choices=[*BINARIES, "both"], default="both")


def each(asked: argparse.Namespace) -> Iterator[tuple[str, StoreServer]]:
    """Yield the name of each store that ``--store`` asks for, with a server of it that runs until the next is asked."""
    for name in BINARIES if asked.store == "both" else [asked.store]:
        with tempfile.TemporaryDirectory() as folder, running(BINARIES[name](), Path(folder)) as server:
            yield name, server
