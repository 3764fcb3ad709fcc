"""The operator's settings."""

from __future__ import annotations

import os
import re
import secrets
from typing import Annotated, Final

from pydantic import Field

from heavylift.runtime.settings import ProcessSettings, Seconds, describe

PROGRAM: Final = "heavylift-operator"


def _holder() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename).strip("-._") or "operator"
    return f"{host[:60]}-{secrets.token_hex(4)}"


class OperatorSettings(ProcessSettings):
    """Everything that can be set on an operator."""

    reconcile_interval: Annotated[Seconds, Field(ge=0.2, le=600)] = 20.0
    """Pause between two comparisons of Redis and Kubernetes; a lost event costs this much at most."""
    workers: Annotated[int, Field(ge=1, le=500)] = 16
    """Jobs attended to at once."""
    status_interval: Seconds = 30.0
    """Shortest pause between two writes of a HeavyQueue's counts."""
    identity: Annotated[str, Field(min_length=1, max_length=100)] = Field(default_factory=_holder)
    """Name of this replica as holder of the lock in Redis; default: host name and a random part."""

    @property
    def grace_ms(self) -> int:
        """How long a Job must be missing, or unknown to Redis, before that counts: more than two intervals."""
        return round(self.reconcile_interval * 2_100)


def help_text() -> str:
    """Return what ``--help`` prints."""
    return describe(
        OperatorSettings,
        program=PROGRAM,
        purpose="Brings what becomes of Jobs and pods back into the queues, and keeps Redis and the cluster in step.",
        example={
            "HEAVYLIFT_REDIS_URL": "redis://redis:6379/0",
            "HEAVYLIFT_INSTALL_ID": "heavylift/main",
            "HEAVYLIFT_NAMESPACES": "analytics,reports",
            "HEAVYLIFT_KUBECONFIG": "~/.kube/config",
        },
    )
