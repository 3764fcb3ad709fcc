"""The operator's settings."""

from __future__ import annotations

import os
import re
import secrets
from typing import Annotated, Final

from pydantic import Field

from heavylift.runtime.settings import ProcessSettings, Seconds, describe

PROGRAM: Final = "heavylift-operator"
_SERVICE: Final = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z]([-a-z0-9]*[a-z0-9])?)?$"


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

    metrics_api_service: Annotated[str, Field(pattern=_SERVICE)] = ""
    """Namespace and name of the Service in front of the external metrics API, e.g. lift/metrics; empty = not served."""
    metrics_api_secret: Annotated[str, Field(max_length=253)] = "heavylift-metrics-api"  # noqa: S105 - a name
    """Secret in that namespace with its certificate; the operator makes it and renews it."""
    metrics_api_secret_given: bool = False
    """Whether somebody else keeps that Secret (cert-manager): tls.crt, tls.key and, for the APIService, ca.crt."""
    metrics_api_host: str = "0.0.0.0"  # noqa: S104 - for the API server
    """Address of the external metrics API."""
    metrics_api_port: Annotated[int, Field(ge=0, le=65535)] = 6443
    """Port of the external metrics API; 0 = a free one."""
    metrics_api_sample: Annotated[Seconds, Field(ge=0.1, le=60)] = 2.0
    """Pause between two looks at the queues; requests are answered from the last one."""
    metrics_api_stale: Annotated[Seconds, Field(ge=1, le=600)] = 30.0
    """How old the last look may be when Redis is lost; then requests are answered by 503, never by 0."""
    metrics_api_settle: Annotated[Seconds, Field(ge=0.1, le=86_400)] = 600.0
    """How long a new certificate authority is announced before it signs, and the old one trusted after it signed."""

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
