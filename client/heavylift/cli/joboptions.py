"""The options of ``heavylift enqueue``, as they are typed and explained."""

from __future__ import annotations

from typing import Annotated

import typer

from heavylift.cli.completing import offer, queue_names
from heavylift.options import IF_EXISTS

_Text = str | None
_Words = list[str] | None

Data = Annotated[_Text, typer.Option("--data", "-d", help="The task's data: JSON, @FILE, or - for standard input.")]
QueueName = Annotated[_Text, typer.Argument(help="Queue.", metavar="QUEUE", autocompletion=queue_names)]
Task = Annotated[_Text, typer.Argument(help="The task's registered name.", metavar="TASK")]
Id = Annotated[_Text, typer.Option("--id", help="Job id; random when left out.")]
IfExists = Annotated[
    _Text,
    typer.Option(help="If the id is taken: raise, return, retry_failed or replace.", autocompletion=offer(*IF_EXISTS)),
]
Priority = Annotated[int | None, typer.Option(help="-1000 to 1000; lower is sooner.")]
Lifo = Annotated[bool, typer.Option("--lifo", help="To the front of those of its priority.")]
Key = Annotated[_Text, typer.Option(help="Concurrency key: shares the queue's concurrency.perKey.")]
Dedupe = Annotated[_Text, typer.Option(help="Deduplication key: at most one unfinished job for each.")]
DedupeMode = Annotated[
    _Text, typer.Option(help="first, keep_last or debounce.", autocompletion=offer("first", "keep_last", "debounce"))
]
DedupeTtl = Annotated[_Text, typer.Option(help="Time of a throttle (first) or a debounce, for example 1h.")]
MaxAttempts = Annotated[int | None, typer.Option(help="Attempts before the job fails.")]
Backoff = Annotated[
    _Text, typer.Option(help="Wait between attempts, doubling: 2s or 2s..10m; fixed:2s = always the same.")
]
Delay = Annotated[_Text, typer.Option(help="Start not before this much later, for example 5m.")]
Expires = Annotated[_Text, typer.Option(help="Fail if not started within this time, for example 48h.")]
Timeout = Annotated[_Text, typer.Option(help="Longest run of one attempt, for example 30m.")]
TotalTimeout = Annotated[_Text, typer.Option(help="Longest time for all attempts, for example 6h.")]
Resources = Annotated[_Words, typer.Option("--set", help="Resource, for example memory=4Gi.")]
Env = Annotated[_Words, typer.Option(help="Environment variable, NAME=VALUE.")]
Label = Annotated[_Words, typer.Option(help="Label, NAME=VALUE.")]
DependsOn = Annotated[_Words, typer.Option(help="Id of a job that must complete first.")]
FromFile = Annotated[_Text, typer.Option(help="Enqueue each line of a JSON Lines file (-: standard input).")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the job's end and print its result.")]
WaitTimeout = Annotated[_Text, typer.Option(help="Wait, and at most this long, for example 10m.")]
