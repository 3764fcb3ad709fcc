"""Every verb prints JSON, YAML and names; what takes long moves a bar on a terminal of 80 columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from heavylift import Client
from heavylift.cli.app import app
from tests.integration.client.conftest import Player, Run
from tests.integration.client.terminal import on_a_terminal
from tests.servers import StoreServer

QUEUE, NEVER = "reports", "1h"
MANIFEST = Path(__file__).resolve().parents[3] / "examples" / "reports" / "queue.yaml"
SILENT = {"completion", "run", "jobs logs"}
"""Verbs that print what others wrote, as it is."""


def nothing(_player: Player, _client: Client, _name: str) -> None:
    """Prepare nothing."""


def waiting(_player: Player, client: Client, name: str) -> None:
    """Let a job of this id wait."""
    client.queue(QUEUE).enqueue("annual", {}, id=name)


def delayed(_player: Player, client: Client, name: str) -> None:
    """Let a job of this id be delayed."""
    client.queue(QUEUE).enqueue("annual", {}, id=name, delay=NEVER)


def completed(player: Player, client: Client, name: str) -> None:
    """Let a job of this id be completed."""
    waiting(player, client, name)
    player.run_one("7")


def failed(player: Player, client: Client, name: str) -> None:
    """Let all waiting jobs fail, one of them of this id."""
    waiting(player, client, name)
    while claim := player.claim():
        player.fail(claim)


def scheduled(_player: Player, client: Client, name: str) -> None:
    """Let there be a schedule of this id."""
    client.queue(QUEUE).schedule(name, "annual", every=NEVER)


def suspended(player: Player, client: Client, name: str) -> None:
    """Let there be a suspended schedule of this id."""
    scheduled(player, client, name)
    client.schedule(name).suspend()


Prepare = Callable[[Player, Client, str], None]
VERBS: Mapping[str, tuple[Prepare, tuple[str, ...], str]] = {
    "enqueue": (nothing, (QUEUE, "annual", "--id", "{}"), "{}"),
    "render": (nothing, ("reports", "--file", str(MANIFEST)), ""),
    "doctor": (nothing, (), "redis version"),
    "jobs list": (waiting, ("--queue", QUEUE), "{}"),
    "jobs show": (waiting, ("{}",), "{}"),
    "jobs wait": (completed, ("{}",), "{}"),
    "jobs cancel": (waiting, ("{}",), "{}"),
    "jobs retry": (failed, ("{}",), "{}"),
    "jobs promote": (delayed, ("{}",), "{}"),
    "jobs change": (delayed, ("{}", "--delay", "2h"), "{}"),
    "jobs remove": (waiting, ("{}", "--yes"), "{}"),
    "jobs why": (waiting, ("{}",), "{}"),
    "jobs explain": (waiting, ("{}",), "{}"),
    "queues list": (nothing, (), QUEUE),
    "queues show": (nothing, (QUEUE,), QUEUE),
    "queues pause": (nothing, (QUEUE,), QUEUE),
    "queues resume": (nothing, (QUEUE,), QUEUE),
    "queues purge": (waiting, (QUEUE, "--yes"), QUEUE),
    "schedules list": (scheduled, (), "{}"),
    "schedules show": (scheduled, ("{}",), "{}"),
    "schedules suspend": (scheduled, ("{}",), "{}"),
    "schedules resume": (suspended, ("{}",), "{}"),
    "schedules trigger": (scheduled, ("{}",), ""),
    "schedules delete": (scheduled, ("{}",), "{}"),
    "autoscale simulate": (nothing, ("--demand", "0s=0,30s=42", "--until", "60s"), ""),
}
"""Verb -> what it needs, its arguments, and what ``-o name`` has a line with; ``{}`` is an id of its own."""


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Yield each verb there is and its options."""
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from verbs(found, (*path, name))
        else:
            yield " ".join((*path, name)), {option for parameter in found.params for option in parameter.opts}


def test_every_verb_has_a_form_for_programs() -> None:
    """A verb without ``--output`` is one whose text is somebody else's; the table below has all others."""
    found = dict(verbs(typer.main.get_command(app)))
    assert {name for name, options in found.items() if "--output" in options} == VERBS.keys()
    assert found.keys() - VERBS.keys() == SILENT


@pytest.mark.parametrize("verb", VERBS)
def test_json_yaml_and_names(served: Player, client: Client, run: Run, verb: str) -> None:
    """JSON and YAML have the same fields and nothing around them; ``name`` is an id a line, for the next command."""
    prepare, arguments, wanted = VERBS[verb]
    said: dict[str, str] = {}
    for form in ("json", "yaml", "name"):
        prepare(served, client, form)
        done = run(*verb.split(), *(argument.format(form) for argument in arguments), "-o", form)
        assert done.code == 0 or verb == "doctor", done
        said[form] = done.out
    assert shape(json.loads(said["json"])) == shape(yaml.safe_load(said["yaml"]))
    names = said["name"].splitlines()
    assert wanted.format("name") in names if wanted else names
    assert not any(name.startswith(("{", "[", "- ")) for name in names)


def shape(value: Any) -> Any:
    """Return what stays the same between two jobs: the fields."""
    first = value[0] if isinstance(value, list) else value
    return (type(value), sorted(first))


BAR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|━")


@pytest.mark.parametrize("verb", ["wait", "from-file", "purge"])
def test_what_takes_long_moves_a_bar(
    served: Player, client: Client, redis_server: StoreServer, run: Run, tmp_path: Path, verb: str
) -> None:
    """Waiting for jobs, enqueueing a file and purging show how far they are; the same in a pipe shows none."""
    for name in ("a", "b"):
        (completed if verb == "wait" else waiting)(served, client, name)
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"queue": "reports", "task": "annual", "data": {}}\n' * 3)
    arguments = {
        "wait": ("jobs", "wait", "a", "b"),
        "from-file": ("enqueue", "--from-file", str(lines)),
        "purge": ("queues", "purge", QUEUE, "--yes"),
    }[verb]
    title = {"wait": "ended", "from-file": "enqueued", "purge": f"queue {QUEUE}"}[verb]

    shown = on_a_terminal(redis_server.url, *arguments)

    assert title in shown
    assert "━" in shown
    assert "100%" in shown
    if verb == "purge":
        waiting(served, client, "c")
    piped = run(*arguments)
    assert piped.code == 0
    assert not BAR.search(piped.out + piped.err)
