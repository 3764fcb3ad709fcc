"""The connection one command works with: HEAVYLIFT_REDIS_URL, --redis, or --kube through a port-forward."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from heavylift.client import Client
from heavylift.errors import ConfigurationError

FORWARD_PATIENCE_S = 20.0
"""A port-forward goes through API server and kubelet: its first answer may take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The global options."""

    redis: str | None = None
    kube: str | None = None
    release: str = "heavylift"

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client for one command.

        Raises:
            ConfigurationError: no Redis was named, or --kube needs something that is missing.
            ClusterUnavailableError: --kube cannot reach the cluster.
        """
        if self.redis and self.kube:
            raise ConfigurationError("--redis and --kube exclude each other: give one of them")
        if not self.kube:
            with Client(self.redis, actor=actor()) as client:
                yield client
            return
        from heavylift.cli.kube import forwarded_redis  # noqa: PLC0415 - needs the extra kube

        with (
            forwarded_redis(self.kube, self.release) as url,
            Client(url, actor=actor(), patience=FORWARD_PATIENCE_S) as client,
        ):
            yield client


def session(context: typer.Context) -> Session:
    """Return the session of this invocation."""
    found = context.obj
    return found if isinstance(found, Session) else Session()


def actor() -> str:
    """Return who acts, for what Redis keeps of a cancel or a pause."""
    try:
        return f"{getpass.getuser()} (heavylift command)"
    except (KeyError, OSError):  # no such user in this container
        return "heavylift command"
