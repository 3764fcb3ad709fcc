"""Asks for reports: ``python -m reports.produce --years 1990 1999``.

``HEAVYLIFT_REDIS_URL`` says where the queue is.
"""

from __future__ import annotations

import argparse
import time

from heavylift import Client, JobRequest
from heavylift.errors import HeavyliftError

SPANS = ((1975, 1984), (1985, 1994), (1995, 2004), (2005, 2014))


def good(years: range, resamples: int, run: str) -> list[JobRequest]:
    """Return one annual report for each year and the spans of ten years that lie within them."""
    requests = [
        JobRequest("annual", {"year": year, "resamples": resamples}, id=f"annual-{year}-{run}") for year in years
    ]
    spans = [(first, last) for first, last in SPANS if first in years and last in years]
    return requests + [
        JobRequest("span", {"first": first, "last": last}, id=f"span-{first}-{last}-{run}") for first, last in spans
    ]


def bad(run: str) -> list[JobRequest]:
    """Return jobs that cannot succeed, each for another reason; how each of them ends is in README.md."""
    return [
        JobRequest("annual", {"year": 1850}, id=f"before-the-series-{run}"),
        JobRequest("annual", {"year": "next year"}, id=f"not-a-year-{run}"),
        JobRequest("annual", {"yaer": 1999}, id=f"misspelt-argument-{run}"),
        JobRequest("anual", {"year": 1999}, id=f"misspelt-task-{run}"),
        JobRequest("span", {"first": 2009, "last": 2000}, id=f"years-exchanged-{run}"),
        JobRequest("span", {"first": 1973, "last": 2026}, id=f"too-big-for-memory-{run}"),
    ]


def main() -> None:
    """Enqueue what the command line asks for and say what was enqueued."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue", default="reports")
    parser.add_argument("--years", nargs=2, type=int, default=(1973, 2026), metavar=("FIRST", "LAST"))
    parser.add_argument("--resamples", type=int, default=6000, help="more is slower and steadier (default 6000)")
    parser.add_argument("--bad", action="store_true", help="also jobs that cannot succeed")
    options = parser.parse_args()
    first, last = options.years
    run = time.strftime("%H%M%S")
    requests = good(range(first, last + 1), options.resamples, run) + (bad(run) if options.bad else [])
    try:
        with Client() as client:
            jobs = client.queue(options.queue).enqueue_many(requests)
    except HeavyliftError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{len(jobs)} jobs are waiting in {options.queue}: {jobs[0].id} ... {jobs[-1].id}")


if __name__ == "__main__":
    main()
