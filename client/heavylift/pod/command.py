"""``heavylift run MODULE...``: the command of a job's container."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Sequence

from heavylift.context import StopFlag
from heavylift.contract.ids import printable
from heavylift.errors import ConfigurationError
from heavylift.pod.environment import JobEnvironment
from heavylift.pod.runner import Ending, run_attempt
from heavylift.pod.stop import StopSignal

USAGE_ERROR = 2

_EPILOG = """\
example, as the command of a HeavyQueue's container:
  command: [heavylift, run, myapp.tasks]

Exit codes: 0 done, 1 failed, 64 failed and no retry would help, 75 snoozed, 143
stopped by SIGTERM; sys.exit(N) in a task ends with N.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job that the environment describes and return the exit code."""
    arguments = _parser().parse_args(argv)
    stop = StopSignal(StopFlag())
    stop.install()
    _write_logs_by_line()
    try:
        job = JobEnvironment.read(os.environ)
    except ConfigurationError as error:
        print(f"heavylift run: {error}", file=sys.stderr)
        return USAGE_ERROR
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - a sys.path entry is text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above; the image's working folder holds the user's modules
    name = f"task {printable(job.task)!r} of job {printable(job.job_id)}, attempt {job.attempt}"
    print(f"heavylift: {name}", file=sys.stderr)
    began = time.monotonic()
    ending = run_attempt(job, arguments.module, arguments.allow, stop)
    print(f"heavylift: {name}: {ending.said} after {time.monotonic() - began:.1f} s", file=sys.stderr)
    return _leave(job, ending)


def _leave(job: JobEnvironment, ending: Ending) -> int:
    try:
        job.result_file.write(ending.envelope)
    except OSError as error:
        print(f"heavylift: cannot write the result file {job.result_file.path}: {error.strerror}", file=sys.stderr)
        return ending.code or 1
    return ending.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heavylift run",
        description="Run the task of this pod's job: import the modules, call the function registered\nby "
        "@heavylift.task under the job's task name, leave its result or error in the\nresult file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("module", nargs="+", metavar="MODULE", help="module to import, for example myapp.tasks")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN",
        help="also admit undecorated functions whose dotted path matches, for example 'myapp.*'; repeatable",
    )
    return parser


def _write_logs_by_line() -> None:
    """Let `kubectl logs -f` show what the task prints when it prints it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):  # replaced or closed by whoever started us
                stream.reconfigure(line_buffering=True)
