"""``heavylift render``: the Job a queue would create."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from heavylift.cli.inputs import read_data, read_file
from heavylift.cli.joboptions import Data
from heavylift.cli.output import Format, Output
from heavylift.cli.session import session
from heavylift.contract import ids, limits
from heavylift.errors import InvalidInputError
from heavylift.requests import draft


def render(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    context: typer.Context,
    queue: Annotated[str, typer.Argument(help="Queue, as the HeavyQueue names it.", metavar="QUEUE")],
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="File with the HeavyQueue; by your kubeconfig when left out.", metavar="FILE"
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Without --file: the HeavyQueue's namespace.")
    ] = None,
    task: Annotated[str, typer.Option(help="The task's name.")] = "example",
    data: Data = None,
    install: Annotated[
        str | None, typer.Option(help="Install id; NAMESPACE/RELEASE of --kube and --release when left out.")
    ] = None,
    output: Output = Format.YAML,
) -> None:
    """Print the Kubernetes Job that a job of a queue would become; nothing is created, Redis is not asked.

    Example: heavylift render reports --data '{"year": 2026}'

    Example: heavylift render reports --file examples/reports/queue.yaml --data '{"year": 2026}'
    """
    here = session(context)
    documents = _documents(file) if file is not None else _served(queue, namespace)
    where = "in that file" if file is not None else f"in {namespace or 'any namespace'} of the cluster"
    owner = install or f"{here.kube or 'heavylift'}/{here.release}"
    manifest = _manifest(Wanted(queue, documents, where), task, read_data(data), owner)
    if output in {Format.YAML, Format.TABLE}:
        print(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), end="")
    elif output is Format.JSON:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
    else:
        print(manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which HeavyQueue is meant, and among what."""

    queue: str
    documents: list[dict[str, Any]]
    where: str


def _served(queue: str, namespace: str | None) -> list[dict[str, Any]]:
    """Return the cluster's HeavyQueues, those made first before others: the oldest of a name serves it."""
    from heavylift.cli.kube import heavyqueues  # noqa: PLC0415 - needs the extra kube

    def made(found: dict[str, Any]) -> str:
        return str(found.get("metadata", {}).get("creationTimestamp"))

    def named(found: dict[str, Any]) -> bool:
        return queue in {found.get("spec", {}).get("queue"), found.get("metadata", {}).get("name")}

    found = sorted(heavyqueues(namespace), key=made)
    return [{**one, "kind": "HeavyQueue"} for one in found if named(one)] or found


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        found = list(yaml.safe_load_all(read_file(str(file)).decode()))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} is not YAML: {' '.join(str(error).split())[:300]}") from None
    return [document for document in found if isinstance(document, dict)]


def _manifest(wanted: Wanted, task: str, data: Any, install: str) -> dict[str, Any]:
    from heavylift.contract.payload import Payload  # noqa: PLC0415 - render and its models load when asked for
    from heavylift.spec import HeavyQueue, settings  # noqa: PLC0415 - as above
    from heavylift.spec.render import render as render_job  # noqa: PLC0415 - as above
    from heavylift.store.model import Claim  # noqa: PLC0415 - as above

    mine = [document for document in wanted.documents if document.get("kind") == "HeavyQueue"]
    queues = [HeavyQueue.parse(_placed(document)) for document in mine]
    queue = next((found for found in queues if found.queue == wanted.queue), None)
    if queue is None:
        there = ", ".join(found.queue for found in queues) or "none"
        raise InvalidInputError(f"no HeavyQueue for queue {wanted.queue!r} {wanted.where}; there is: {there}")
    checked = draft(task, data, {"id": "example"})
    if len(checked.data_json.encode()) > min(queue.spec.payload.max_size, limits.PAYLOAD_MAX):
        raise InvalidInputError(f"the data is larger than spec.payload.maxSize ({queue.spec.payload.max_size:,} bytes)")
    resolved = settings(queue)
    incarnation = ids.short_hash("example", length=16)
    claim = Claim(
        job=checked.id,
        queue=queue.queue,
        namespace=queue.namespace,
        install=install,
        worker="example",
        execution=ids.execution_id(incarnation, 1),
        incarnation=incarnation,
        seq=1,
        attempt=1,
        task=task,
        data=b"",
        claimed_at=0,
        deadline=0,
        options={},
        frozen={"maxAttempts": resolved["defaults"]["maxAttempts"], "timeouts": resolved["timeouts"]},
        rq={},
    )
    manifest: dict[str, Any] = render_job(claim, queue, Payload(task, checked.data_json, plain=False), install)
    return manifest


def _placed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the object as the API server would hold it: with a namespace and a UID."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise InvalidInputError("a HeavyQueue there has no metadata")
    return {**document, "metadata": {"namespace": "default", "uid": "example", "generation": 1, **metadata}}
