"""One attempt: call the task, and say how it ended as exit code and envelope."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from heavylift.context import Context, RateLimited, RetryAfter, Snooze, StopFlag, UnrecoverableError
from heavylift.contract import envelope
from heavylift.contract.envelope import Raised
from heavylift.contract.names import ExitCode
from heavylift.errors import HeavyliftError, InvalidPayloadError
from heavylift.kept import Kept, own_state, parse
from heavylift.pod.environment import JobEnvironment
from heavylift.pod.stop import Stopped, StopSignal
from heavylift.pod.tasks import UnknownTaskError, import_modules, resolve
from heavylift.tasks import Failure, Task

_BYTE = 0xFF
_HOME = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the attempt ended."""

    code: int
    envelope: str
    said: str
    """One line for the log."""


class ArgumentsError(HeavyliftError):
    """The data does not fit the task's parameters."""


def run_attempt(job: JobEnvironment, modules: Sequence[str], allowed: Sequence[str], stop: StopSignal) -> Ending:
    """Import the modules, run the job's task and return how it ended; whatever the user's code raises is an ending."""
    task: Task[..., Any] | None = None
    run = _Run(job, stop.flag)
    try:
        import_modules(modules)
        task = resolve(job.task, modules, allowed)
        value = _call(task, run)
        stop.disarm()
        return _stopped(run) if stop.flag.seen else _completed(job, value)
    except BaseException as error:
        stop.disarm()
        return _ended_by(error, run, task)


class _Run:
    """One attempt under way: its job, whether it was asked to stop, what it keeps for the next one."""

    def __init__(self, job: JobEnvironment, flag: StopFlag) -> None:
        self.job = job
        self.flag = flag
        self.restored = parse(job.checkpoint)
        self.kept = Kept(self.restored, self._keep)

    def _keep(self, checkpoint: str) -> None:
        try:
            self.job.result_file.keep(envelope.encode_checkpoint(self.job.execution, checkpoint))
        except OSError as error:  # the last word carries it too
            print(f"heavylift: cannot write a checkpoint: {error.strerror}", file=sys.stderr)

    def context(self) -> Context:
        """Return what the task sees."""
        job = self.job
        return Context(
            job_id=job.job_id,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt,
            execution=job.execution,
            restored=own_state(self.restored),
            _stop=self.flag,
            _kept=self.kept,
        )


def _call(task: Task[..., Any], run: _Run) -> Any:
    data = run.job.arguments()
    try:
        args, kwargs = task.schema.call(*data)
    except TypeError as error:
        raise ArgumentsError(_misfit(task, data[1], error)) from None
    value = task.function(*((run.context(), *args) if task.wants_context else args), **kwargs)
    if inspect.iscoroutine(value):
        import asyncio  # noqa: PLC0415 - most tasks are plain functions

        return asyncio.run(value)
    return value


def _misfit(task: Task[..., Any], kwargs: dict[str, Any], error: TypeError) -> str:
    message = f"task {task.name!r} does not take this data: {error} (keys given: {', '.join(kwargs) or 'none'})"
    if "'ctx'" in str(error) and not task.wants_context:
        message += "; annotate the first parameter as ctx: heavylift.Context"
    return message


def _completed(job: JobEnvironment, value: Any) -> Ending:
    return Ending(code=ExitCode.OK, envelope=envelope.encode_result(job.execution, value), said="completed")


def _stopped(run: _Run) -> Ending:
    raised = Raised("Stopped", "stopped by SIGTERM")
    text = envelope.encode_error(run.job.execution, raised, checkpoint=run.kept.text)
    return Ending(code=ExitCode.TERMINATED, envelope=text, said="stopped by SIGTERM")


def _ended_by(error: BaseException, run: _Run, task: Task[..., Any] | None) -> Ending:
    if isinstance(error, Stopped) or run.flag.seen:
        if not isinstance(error, SystemExit):
            _print_traceback(error)
        return _stopped(run)
    if isinstance(error, Snooze):
        hold = isinstance(error, RateLimited)
        text = envelope.encode_snooze(
            run.job.execution, error.delay_ms, str(error), hold=hold, checkpoint=run.kept.text
        )
        return Ending(code=ExitCode.SNOOZE, envelope=text, said=str(error))
    if isinstance(error, SystemExit):
        return _exited(error, run)
    _print_traceback(error)
    return _failed(error, run, task)


def _failed(error: BaseException, run: _Run, task: Task[..., Any] | None) -> Ending:
    final = isinstance(error, UnrecoverableError | InvalidPayloadError | UnknownTaskError | ArgumentsError)
    delay_ms = error.delay_ms if isinstance(error, RetryAfter) else None
    if task is not None and not final and delay_ms is None:
        final = not task.settings.retries(error)
        if not final:
            final, delay_ms = _asked(error, run.job, task)
    kind = type(error).__name__
    message = str(error) or kind
    text = envelope.encode_error(
        run.job.execution,
        Raised(kind, message, _tail(error)),
        no_retry=final,
        delay_ms=delay_ms,
        checkpoint=run.kept.text,
    )
    code = ExitCode.NO_RETRY if final else 130 if isinstance(error, KeyboardInterrupt) else 1
    return Ending(code=code, envelope=text, said=f"failed: {kind}: {message}")


def _asked(error: BaseException, job: JobEnvironment, task: Task[..., Any]) -> tuple[bool, int | None]:
    """Return what the task's ``backoff`` function says of an error: whether to give up, and the wait in ms."""
    failure = Failure(error=error, attempt=job.attempt, job_id=job.job_id, task=task.name)
    try:
        return False, task.settings.delay_ms(failure)
    except UnrecoverableError:
        return True, None
    except Exception as broken:
        print(f"heavylift: the backoff function of {task.name!r} failed, the queue's is used:", file=sys.stderr)
        traceback.print_exception(broken)
        return False, None


def _exited(error: SystemExit, run: _Run) -> Ending:
    """``sys.exit`` means here what it means in any program: the exit code counts."""
    job, kept = run.job, run.kept.text
    if error.code is None or error.code == 0:
        return _completed(job, None)
    if not isinstance(error.code, int):
        print(error.code, file=sys.stderr)
        text = envelope.encode_error(job.execution, Raised("SystemExit", str(error.code)), checkpoint=kept)
        return Ending(code=1, envelope=text, said=f"failed: {error.code}")
    code = (error.code & _BYTE) or 1  # 256 must not become success
    said = f"the task ended itself with exit code {code}"
    if code == ExitCode.SNOOZE:
        return Ending(code=code, envelope=envelope.encode_snooze(job.execution, None, said, checkpoint=kept), said=said)
    final = code == ExitCode.NO_RETRY
    raised = Raised("SystemExit", said, _tail(error))
    text = envelope.encode_error(job.execution, raised, no_retry=final, checkpoint=kept)
    return Ending(code=code, envelope=text, said=said)


def _users_part(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame that is not the runner's; None when the runner itself raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HOME):
        trace = trace.tb_next
    return trace


def _tail(error: BaseException) -> str:
    """Return the traceback through the user's code; empty when none of it ran."""
    if _users_part(error) is None:
        return ""
    return "".join(traceback.format_exception(type(error), error, _users_part(error))).strip()


def _print_traceback(error: BaseException) -> None:
    if text := _tail(error):
        print(text, file=sys.stderr)
