"""``heavylift autoscale``: what the HorizontalPodAutoscaler would do with a load."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
import yaml

from heavylift.autoscale import load, manifest
from heavylift.autoscale.hpa import DOWN_DEFAULT, Behavior, Hpa
from heavylift.autoscale.load import Point
from heavylift.autoscale.simulate import Backlog, GivenDemand, Load, Moment, simulate, summary
from heavylift.cli.inputs import read_file
from heavylift.cli.output import Format, Output, emit, print_json
from heavylift.contract.durations import format_ms, to_ms
from heavylift.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="What the autoscaler does with a load.")

READ_MAX = 8 * 1024 * 1024
"""Bytes read of a curve or a manifest."""
COLUMNS = ("time", "demand", "waiting", "inFlight", "replicas", "after", "recommended", "limit", "why")
_CURVE = "0s=0,1m=200,10m=0, @FILE (CSV or JSON), or -"


@app.callback()
def group() -> None:
    """What the autoscaler does with a load."""


Text = str | None


@app.command("simulate")
def simulate_(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    demand: Annotated[
        Text, typer.Option(help=f"Demand over time: {_CURVE}; no value: no metric.", metavar="CURVE")
    ] = None,
    jobs: Annotated[
        Text, typer.Option(help="Jobs enqueued at each time, same form; needs --run.", metavar="CURVE")
    ] = None,
    run: Annotated[Text, typer.Option(help="How long each job runs, for example 2m.")] = None,
    cap: Annotated[int | None, typer.Option(help="The queue's concurrency.max.", min=1)] = None,
    startup: Annotated[str, typer.Option(help="Time until a new dispatcher claims.")] = "5s",
    hpa: Annotated[
        Text, typer.Option(help="File with the autoscaler's manifest (-: standard input) instead of the next three.")
    ] = None,
    least: Annotated[int, typer.Option("--min", help="minReplicas.", min=0)] = 1,
    most: Annotated[int, typer.Option("--max", help="maxReplicas.", min=1)] = 10,
    down_window: Annotated[str, typer.Option(help="Stabilization window of scaling down.")] = "60s",
    slots: Annotated[
        int | None, typer.Option(help="Jobs per dispatcher, and the target; 10, or the manifest's target.", min=1)
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas at the start; the minimum if left out.", min=0)] = None,
    period: Annotated[str, typer.Option(help="Time between the controller's syncs.")] = "15s",
    until: Annotated[Text, typer.Option(help="End then, not once all is at rest.")] = None,
    every: Annotated[bool, typer.Option("--every", help="Show every sync, not only changes.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what the HorizontalPodAutoscaler would do with a load; asks neither Redis nor a cluster.

    Example: heavylift autoscale simulate --jobs 0s=400 --run 2m --slots 10 --max 8

    Example: heavylift autoscale simulate --demand @demand.csv --hpa hpa.yaml -o json
    """
    view = _from_file(hpa) if hpa is not None else _plain(slots or 10, (least, most), down_window)
    step = to_ms(period) / 1000
    given = _load(
        demand, jobs, run, Backlog((), 1.0, slots or max(1, view.average_milli // 1000), cap, _seconds(startup))
    )
    end = None if until is None else _seconds(until)
    moments = simulate(view, given, replicas=replicas, period=step, until=end)
    _show(moments, summary(moments, given, step), every=every, output=output)


def _seconds(text: str) -> float:
    return to_ms(text) / 1000


def _plain(slots: int, bounds: tuple[int, int], down_window: str) -> Hpa:
    """Return the chart's autoscaler with these values."""
    window = _seconds(down_window)
    if window != int(window) or window > manifest.WINDOW_MAX_S:
        raise InvalidInputError(f"--down-window {down_window}: whole seconds up to {manifest.WINDOW_MAX_S}")
    behavior = Behavior(down=replace(DOWN_DEFAULT, window=int(window)))
    return manifest.checked(Hpa(average_milli=slots * 1000, minimum=bounds[0], maximum=bounds[1], behavior=behavior))


def _from_file(name: str) -> Hpa:
    text = _read(name)
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInputError(f"{name} is not YAML: {' '.join(str(error).split())[:300]}") from None
    return manifest.parse(manifest.find(documents))


def _load(demand: str | None, jobs: str | None, run: str | None, like: Backlog) -> Load:
    """Return the load that the options describe; ``like`` has what a backlog has besides its jobs."""
    if (demand is None) == (jobs is None):
        raise InvalidInputError("give the load as either --demand CURVE or --jobs CURVE")
    if demand is not None:
        if run is not None or like.cap is not None:
            raise InvalidInputError("--run and --cap go with --jobs: a demand has the cap applied")
        return GivenDemand(_curve(demand))
    if run is None:
        raise InvalidInputError("--jobs needs --run: how long each of them runs")
    return Backlog(_curve(str(jobs)), _seconds(run), like.slots, like.cap, like.startup_s)


def _curve(argument: str) -> tuple[Point, ...]:
    if argument == "-" or argument.startswith("@"):
        return load.from_file(_read(argument.removeprefix("@")))
    return load.from_text(argument)


def _read(name: str) -> str:
    raw = sys.stdin.buffer.read(READ_MAX + 1) if name == "-" else read_file(name, READ_MAX + 1)
    if len(raw) > READ_MAX:
        raise InvalidInputError(f"{name} is larger than {READ_MAX:,} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{name} is not UTF-8 text") from None


def _show(moments: Sequence[Moment], told: dict[str, Any], *, every: bool, output: Format) -> None:
    found = {"summary": told, "syncs": [moment.row() for moment in moments]}
    if output is Format.JSON:
        print_json(found)
    elif output is Format.YAML:
        print(yaml.safe_dump(found, sort_keys=False), end="")
    else:
        emit([_line(moment) for moment in (moments if every else _changes(moments))], output, COLUMNS, key="after")
        if output is Format.TABLE:
            print(f"\n{_sentence(told)}")


def _changes(moments: Sequence[Moment]) -> list[Moment]:
    """Return the syncs that rescale, are held back by another reason than the one before, or stand at an end."""
    kept = [moments[0]]
    for before, moment in itertools.pairwise(moments[:-1]):
        if moment.rescaled or _reasons(moment) != _reasons(before):
            kept.append(moment)
    return kept if len(moments) == 1 else [*kept, moments[-1]]


def _reasons(moment: Moment) -> tuple[str, str]:
    able = moment.decision.able
    return ("" if able == "SucceededRescale" else able, moment.decision.limited)


def _line(moment: Moment) -> dict[str, Any]:
    row, decision = moment.row(), moment.decision
    held = decision.able if decision.able not in {"ReadyForNewScale", "SucceededRescale"} else ""
    limit = decision.limited if decision.limited != "DesiredWithinRange" else ""
    demand = None if moment.demand is None else f"{moment.demand:g}"
    time = format_ms(round(moment.at * 1000))
    return {**row, "time": time, "demand": demand, "limit": ", ".join(filter(None, (held, limit))), "why": decision.why}


def _sentence(told: dict[str, Any]) -> str:
    words = [f"{told['peakReplicas']} replicas at most, at {_time(told['peakSeconds'])}"]
    if told["lastRescaleSeconds"] is not None:
        words.append(f"{told['rescales']} rescales, the last at {_time(told['lastRescaleSeconds'])}")
    words.append(f"{told['lastReplicas']} at the end")
    if told.get("doneSeconds") is not None:
        words.append(f"{told['jobsDone']} jobs done at {_time(told['doneSeconds'])}")
    return "; ".join([*words, f"{told['dispatcherSeconds'] / 3600:.2f} dispatcher hours"])


def _time(seconds: float) -> str:
    return format_ms(round(seconds * 1000))
