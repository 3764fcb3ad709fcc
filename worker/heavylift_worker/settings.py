"""The dispatcher's settings."""

from __future__ import annotations

import os
import re
import secrets
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from heavylift.runtime.settings import ProcessSettings, Seconds, describe

PROGRAM: Final = "heavylift-dispatcher"
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _worker_name() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename).strip("-._") or "dispatcher"
    return f"{host[:60]}-{secrets.token_hex(4)}"


class DispatcherSettings(ProcessSettings):
    """Everything that can be set on a dispatcher."""

    slots: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Executions in flight per dispatcher: the installation runs at most slots x live dispatchers."""
    claim_deadline: Seconds = 60.0
    """Time from a claim to its recorded Job after which the operator hands the job back."""
    create_patience: Seconds = 40.0
    """How long creating a Job is tried before its claim is released; shorter than the claim deadline."""
    poll: Seconds = 1.0
    """Longest pause between two looks for jobs that no doorbell announced (plain RQ producers)."""
    create_concurrency: Annotated[int, Field(ge=1, le=500)] = 16
    """Jobs being created at once."""
    create_rate: Annotated[float, Field(gt=0, le=10_000)] = 100.0
    """Creates per second at most, with bursts of twice as many; spares the API server."""
    request_timeout: Seconds = 10.0
    """Longest wait for one answer of the Kubernetes API."""
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failures in a row after which a namespace gets no creates for a while."""
    breaker_pause: Seconds = 30.0
    """How long that while is; then one job is tried."""
    heartbeat: Seconds = 10.0
    """Pause between two signs of life in Redis; a dispatcher is counted as live for three of them."""
    worker_name: Annotated[str, Field(min_length=1, max_length=100, pattern=_NAME)] = Field(
        default_factory=_worker_name
    )
    """Name in RQ's tools and of the claims; default: host name and a random part."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.create_patience >= self.claim_deadline:
            raise ValueError(
                "HEAVYLIFT_CREATE_PATIENCE is not below HEAVYLIFT_CLAIM_DEADLINE: "
                "the operator would act while the dispatcher still tries"
            )
        return self


def help_text() -> str:
    """Return what ``--help`` prints."""
    return describe(
        DispatcherSettings,
        program=PROGRAM,
        purpose="Claims jobs from the queues of HeavyQueues and creates one Kubernetes Job for each attempt.",
        example={
            "HEAVYLIFT_REDIS_URL": "redis://redis:6379/0",
            "HEAVYLIFT_INSTALL_ID": "heavylift/main",
            "HEAVYLIFT_NAMESPACES": "analytics,reports",
            "HEAVYLIFT_KUBECONFIG": "~/.kube/config",
        },
    )
