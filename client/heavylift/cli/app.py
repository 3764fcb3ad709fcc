"""The ``heavylift`` command: nouns, then verbs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from heavylift import __version__
from heavylift.cli import autoscale, completing, doctor, enqueue, jobs, queues, render, schedules
from heavylift.cli.exits import Exit, report
from heavylift.cli.session import Session

EPILOG = (
    "Exit codes: 0 done, 1 job failed, 2 usage, 3 not found, 4 refused, 5 Redis or cluster unreachable, "
    "124 wait timed out."
)

app = typer.Typer(
    name="heavylift",
    help="Heavy jobs from an RQ queue in Redis, run as Kubernetes Jobs.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("enqueue")(enqueue.enqueue)
app.add_typer(jobs.app, name="jobs")
app.add_typer(queues.app, name="queues")
app.add_typer(schedules.app, name="schedules")
app.add_typer(autoscale.app, name="autoscale")
app.command("render")(render.render)
app.command("doctor")(doctor.doctor)
app.command("completion")(completing.completion)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    redis: Annotated[
        str | None,
        typer.Option("--redis", help="Redis URL; HEAVYLIFT_REDIS_URL when left out.", metavar="URL"),
    ] = None,
    kube: Annotated[
        str | None,
        typer.Option(
            help="Namespace Heavylift is installed in: its Redis is reached by your kubeconfig.", metavar="NAMESPACE"
        ),
    ] = None,
    release: Annotated[str, typer.Option(help="Helm release name, with --kube.")] = "heavylift",
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Heavy jobs from an RQ queue in Redis, run as Kubernetes Jobs.

    Example: heavylift --redis redis://localhost:6379/0 enqueue reports annual --data '{"year": 2026}' --wait
    """
    del version
    context.obj = Session(redis=redis, kube=kube, release=release)


@app.command("run", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def run(arguments: Annotated[list[str] | None, typer.Argument(metavar="MODULE...")] = None) -> None:
    """Run a task: the command of a job's container.

    Example: command: [heavylift, run, myapp.tasks]
    """
    from heavylift.pod.command import main as run_pod  # noqa: PLC0415 - reached only through --redis ... run

    raise typer.Exit(run_pod(arguments or ["--help"]))


def _usage(error: Any) -> int:
    """Show a usage error as typer does; its type is private to typer."""
    error.show()
    return int(error.exit_code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a person never sees a traceback."""
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="heavylift", standalone_mode=False)
    except typer.Abort:
        return Exit.INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # `heavylift jobs list | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except typer.TyperException as error:
        return _usage(error)
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is, people get one line
        return report(error)
    return code if isinstance(code, int) else Exit.DONE
