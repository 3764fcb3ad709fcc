"""The function that RQ's own workers find in our jobs: it refuses, so that no heavy work runs inside a worker."""

from __future__ import annotations

from typing import Any, NoReturn

from heavylift.errors import ConfigurationError


def outside_pod(task: str = "", data: Any = None) -> NoReturn:  # noqa: ARG001 - RQ calls it with the job's arguments
    """Refuse to run a job of Heavylift's in a stock RQ worker.

    Raises:
        ConfigurationError: always; it says what to do.
    """
    raise ConfigurationError(
        f"task {str(task)[:100]!r} was enqueued for Heavylift and runs only in its Kubernetes Job: stop the RQ worker "
        "that listens on this queue, then retry the job (heavylift jobs retry ID)"
    )
