"""The job as the pod's environment describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.contract.names import RESULT_FILE, Env
from heavylift.errors import ConfigurationError, InvalidPayloadError
from heavylift.pod.result_file import ResultFile


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnvironment:
    """What HEAVYLIFT_JOB_* said."""

    job_id: str
    task: str
    queue: str
    attempt: int
    execution: str
    payload: str
    checkpoint: str
    """JSON text an earlier attempt left; empty = none."""
    result_file: ResultFile

    @classmethod
    def read(cls, env: Mapping[str, str]) -> JobEnvironment:
        """Return the job described by the environment.

        Raises:
            ConfigurationError: a variable is missing or wrong, or the result file cannot be written.
        """
        missing = [name for name in (Env.JOB_ID, Env.TASK, Env.EXECUTION, Env.PAYLOAD) if name not in env]
        if missing:
            raise ConfigurationError(
                f"{', '.join(missing)} not set: `heavylift run` is the command of a HeavyQueue's container and runs in "
                "a job's pod; to try a task here, call it from Python, or set HEAVYLIFT_JOB_ID=test "
                "HEAVYLIFT_JOB_EXECUTION=test-1 HEAVYLIFT_JOB_TASK=NAME HEAVYLIFT_JOB_PAYLOAD='{}' "
                "HEAVYLIFT_JOB_RESULT_FILE=/dev/stdout"
            )
        attempt = env.get(Env.ATTEMPT, "1")
        if not (attempt.isascii() and attempt.isdigit()):
            raise ConfigurationError(f"{Env.ATTEMPT} is {attempt[:40]!r}: it is a whole number from 1")
        return cls(
            job_id=env[Env.JOB_ID],
            task=env[Env.TASK],
            queue=env.get(Env.QUEUE, ""),
            attempt=int(attempt),
            execution=env[Env.EXECUTION],
            payload=env[Env.PAYLOAD],
            checkpoint=env.get(Env.CHECKPOINT, ""),
            result_file=ResultFile(_writable(Path(env.get(Env.RESULT_FILE) or RESULT_FILE))),
        )

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return what the task is called with: a mapping is keyword arguments, one of exactly args and kwargs both.

        Raises:
            InvalidPayloadError: the payload is no such JSON.
        """
        try:
            data = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise InvalidPayloadError(f"{Env.PAYLOAD} is not JSON: {error}") from None
        if data is None:
            return [], {}
        if not isinstance(data, dict):
            raise InvalidPayloadError(
                f"the data is a {type(data).__name__}: a task takes a JSON object, its keyword arguments"
            )
        if data.keys() == {"args", "kwargs"} and isinstance(data["args"], list) and isinstance(data["kwargs"], dict):
            return data["args"], data["kwargs"]
        return [], data


def _writable(path: Path) -> Path:
    """Return the path; hours of work must not end at a file that cannot be written."""
    try:
        with path.open("ab"):
            return path
    except OSError as error:
        raise ConfigurationError(
            f"the result file {path} cannot be written ({error.strerror}): set {Env.RESULT_FILE} to one that can"
        ) from None
