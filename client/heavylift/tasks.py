"""Tasks: functions that run in a job's pod under a registered name; standard library only.

```python
@heavylift.task(queue="reports", max_attempts=5, no_retry_on=(ValueError,))
def annual(ctx: heavylift.Context, year: int) -> dict[str, str]: ...

annual.enqueue(2026)                          # from the producer, through HEAVYLIFT_REDIS_URL
annual.options(delay="5m").enqueue(2026)
annual(2026)                                  # runs here, for tests
```
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from heavylift.context import Context, RateLimited, RetryAfter, Snooze, UnrecoverableError
from heavylift.contract.durations import Duration, to_ms
from heavylift.errors import ConfigurationError, InvalidInputError
from heavylift.options import Backoff, EnqueueOptions, Timeouts, check_attempts, check_priority
from heavylift.typed import Schema

if TYPE_CHECKING:
    from heavylift.aio import AsyncClient, AsyncJob
    from heavylift.client import Client
    from heavylift.jobs import Job

__all__ = [
    "Context",
    "Failure",
    "RateLimited",
    "RetryAfter",
    "Snooze",
    "Task",
    "TaskSettings",
    "UnrecoverableError",
    "find",
    "registered",
    "task",
]

P = ParamSpec("P")
R = TypeVar("R")
Errors = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a ``backoff`` function is told in the pod after its task raised."""

    error: BaseException
    attempt: int
    """1-based: the attempt that failed."""
    job_id: str
    task: str


BackoffFunction = Callable[[Failure], Duration | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """What ``@task`` was given."""

    name: str
    queue: str | None = None
    max_attempts: int | None = None
    retry_on: Errors = ()
    """If given, other errors end the job at once."""
    no_retry_on: Errors = ()
    """Errors that end the job at once; stronger than ``retry_on``."""
    backoff: Backoff | BackoffFunction | None = None
    timeouts: Timeouts | None = None
    priority: int | None = None
    validate: bool = True
    """Whether data is held against the function's annotations."""

    def retries(self, error: BaseException) -> bool:
        """Return whether another attempt may help after this error."""
        if isinstance(error, self.no_retry_on):
            return False
        return not self.retry_on or isinstance(error, self.retry_on)

    def delay_ms(self, failure: Failure) -> int | None:
        """Return the wait a ``backoff`` function asks for; None = the job's backoff, then the queue's.

        Raises:
            InvalidDurationError: the function returned something else than a duration or None.
        """
        if self.backoff is None or isinstance(self.backoff, Backoff):
            return None
        delay = self.backoff(failure)
        return None if delay is None else to_ms(delay)

    def enqueue_options(self) -> EnqueueOptions:
        """Return what these settings mean for an enqueue."""
        options: EnqueueOptions = {}
        if self.max_attempts is not None:
            options["max_attempts"] = self.max_attempts
        if isinstance(self.backoff, Backoff):
            options["backoff"] = self.backoff
        if self.timeouts is not None:
            options["timeouts"] = self.timeouts
        if self.priority is not None:
            options["priority"] = self.priority
        return options


class Task(Generic[P, R]):
    """A registered function: call it to run it here, ``enqueue`` it to run it in the cluster."""

    def __init__(self, function: Callable[..., Any], settings: TaskSettings) -> None:
        self.function = function
        self.settings = settings
        self.name = settings.name
        self.wants_context = wants_context(function)
        self.__name__ = getattr(function, "__name__", settings.name)
        self.__qualname__ = getattr(function, "__qualname__", settings.name)
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here; one that wants a Context gets a local one unless it is passed."""
        if self.wants_context and not (args and isinstance(args[0], Context)):
            return cast("R", self.function(Context(task=self.name), *args, **kwargs))
        return cast("R", self.function(*args, **kwargs))

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<heavylift task {self.name!r}: {self.path}>"

    def __reduce__(self) -> str:  # type: ignore[explicit-override]  # as above
        """Pickle by name, as functions are: a task may be handed to a process pool in its pod."""
        return self.__qualname__

    @property
    def path(self) -> str:
        """The function's dotted path."""
        return f"{self.__module__}.{self.__qualname__}"

    def options(
        self,
        *,
        queue: str | None = None,
        client: Client | AsyncClient | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> BoundTask[P, R]:
        """Return the task with options for its next enqueues.

        Args:
            queue: instead of the one in ``@task``.
            client: instead of the default one (HEAVYLIFT_REDIS_URL).
            options: as of ``Queue.enqueue``; stronger than those in ``@task``.
        """
        return BoundTask(self, queue or self.settings.queue, client, options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue a call with these arguments; see ``Queue.enqueue`` for what it raises."""
        return self.options().enqueue(*args, **kwargs)

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[R]:
        """As ``enqueue``, awaited."""
        return await self.options().enqueue_async(*args, **kwargs)

    def data(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return a call's arguments as a job's data: by name where the function allows it, a single model as a whole.

        Raises:
            InvalidInputError: the function does not take them.
            InvalidPayloadError: one is not what its annotation says; the message names it by its path.
        """
        try:
            return self.schema.data(args, kwargs)
        except TypeError as error:
            raise InvalidInputError(f"{self.__qualname__} does not take these arguments: {error}") from None

    @cached_property
    def schema(self) -> Schema:
        """What the function takes, by its annotations."""
        return Schema.of(self.function, skip_first=self.wants_context, check=self.settings.validate)


def merged(own: EnqueueOptions, given: EnqueueOptions) -> EnqueueOptions:
    """Return a task's own options with those of one enqueue in their place; timeouts limit by limit."""
    whole: EnqueueOptions = {**own, **{name: value for name, value in given.items() if value is not None}}  # type: ignore[typeddict-item]  # names are its own
    ours, theirs = own.get("timeouts"), given.get("timeouts")
    if isinstance(ours, Timeouts) and isinstance(theirs, Timeouts):
        limits = {name: getattr(theirs, name) for name in Timeouts.__slots__ if getattr(theirs, name) is not None}
        whole["timeouts"] = replace(ours, **limits)
    return whole


class BoundTask(Generic[P, R]):
    """A task with options; made by ``Task.options``."""

    def __init__(
        self, task: Task[P, R], queue: str | None, client: Client | AsyncClient | None, options: EnqueueOptions
    ) -> None:
        self.task = task
        self._queue = queue
        self._client = client
        self._options = merged(task.settings.enqueue_options(), options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue a call with these arguments; see ``Queue.enqueue`` for what it raises."""
        from heavylift.client import Client, default_client  # noqa: PLC0415 - a pod must not load the store

        client = self._client or default_client()
        if not isinstance(client, Client):
            raise ConfigurationError("an AsyncClient cannot enqueue without await: use enqueue_async")
        return client.queue(self._target()).enqueue(self.task.name, self.task.data(*args, **kwargs), **self._options)

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[R]:
        """As ``enqueue``, awaited; without a client of its own it opens one for this call."""
        from heavylift.aio import AsyncClient  # noqa: PLC0415 - a pod must not load the store

        data = self.task.data(*args, **kwargs)
        if self._client is None:
            async with AsyncClient() as client:
                return await client.queue(self._target()).enqueue(self.task.name, data, **self._options)
        if not isinstance(self._client, AsyncClient):
            raise ConfigurationError("enqueue_async needs an AsyncClient; with a Client use enqueue")
        return await self._client.queue(self._target()).enqueue(self.task.name, data, **self._options)

    def _target(self) -> str:
        if self._queue is None:
            raise ConfigurationError(
                f"task {self.task.name!r} has no queue: write @heavylift.task(queue=...) or .options(queue=...)"
            )
        return self._queue


# -- the decorator and the registry -----------------------------------------------------------------------------------
_registry: dict[str, Task[..., Any]] = {}


@overload
def task(function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = ...,
    queue: str | None = ...,
    max_attempts: int | None = ...,
    retry_on: Errors = ...,
    no_retry_on: Errors = ...,
    backoff: Backoff | BackoffFunction | None = ...,
    timeouts: Timeouts | None = ...,
    priority: int | None = ...,
    validate: bool = ...,
) -> _Decorator: ...
def task(function: Callable[..., Any] | None = None, /, *, name: str | None = None, **settings: Any) -> Any:
    """Register a function as a task; with or without arguments.

    Args:
        function: the function; its first parameter may be annotated ``heavylift.Context``.
        name: the registered name; the function's own name when left out.
        settings: ``queue`` (the default one of ``enqueue``), ``max_attempts``, ``retry_on`` and ``no_retry_on``
            (tuples of exception types), ``backoff`` (a Backoff, or a function of Failure called in the pod),
            ``timeouts``, ``priority``, ``validate`` (False: data is not held against the function's annotations).

    Raises:
        ConfigurationError: another function has this name, or a setting is not usable.
    """
    decorator = _Decorator(name, settings)
    return decorator if function is None else decorator(function)


class _Decorator:
    """What ``@task(...)`` returns; a class so that its call keeps the function's types."""

    def __init__(self, name: str | None, settings: Mapping[str, Any]) -> None:
        unknown = settings.keys() - TaskSettings.__slots__
        if unknown:
            known = ", ".join(sorted(TaskSettings.__slots__))
            raise ConfigurationError(
                f"@task does not know {', '.join(sorted(unknown))}: it takes {known}; other options go with "
                "each enqueue: .options(...).enqueue(...)"
            )
        for option in ("retry_on", "no_retry_on"):
            _check_errors(option, settings.get(option, ()))
        if settings.get("max_attempts") is not None:
            check_attempts(settings["max_attempts"])
        if settings.get("priority") is not None:
            check_priority(settings["priority"])
        backoff = settings.get("backoff")
        if backoff is not None and not isinstance(backoff, Backoff) and not callable(backoff):
            raise ConfigurationError("@task: backoff is a Backoff or a function of heavylift.Failure")
        self._name = name
        self._settings = settings

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Any, /) -> Task[..., Any]:
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError(f"@task decorates functions, not {function!r}")
        settings = TaskSettings(name=self._name or function.__name__, **self._settings)
        return _register(Task(function, settings))


def _check_errors(option: str, errors: Any) -> None:
    if not isinstance(errors, tuple) or not all(isinstance(e, type) and issubclass(e, BaseException) for e in errors):
        raise ConfigurationError(f"@task: {option} is a tuple of exception types, for example {option}=(OSError,)")


def _register(new: Task[..., Any]) -> Task[..., Any]:
    old = _registry.get(new.name)
    if old is not None and _home(old) != _home(new):
        raise ConfigurationError(
            f"two tasks are named {new.name!r}: {old.path} and {new.path}; give one of them another name="
        )
    _registry[new.name] = new
    return new


def _home(task: Task[..., Any]) -> tuple[str, str]:
    """Return file and qualified name: the same function may be imported as a module and as ``__main__``."""
    code = getattr(task.function, "__code__", None)
    return (code.co_filename if code else task.__module__, task.__qualname__)


def registered() -> Mapping[str, Task[..., Any]]:
    """Return the tasks of all modules imported so far, by name."""
    return dict(_registry)


def find(name: str) -> Task[..., Any] | None:
    """Return the task of this name, or the one whose function has this dotted path (plain RQ's way), or None."""
    direct = _registry.get(name)
    return direct or next((task for task in _registry.values() if task.path == name), None)


# -- signatures -------------------------------------------------------------------------------------------------------
def wants_context(function: Callable[..., Any]) -> bool:
    """Return whether the first parameter is annotated ``heavylift.Context``."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None:
        return False
    if isinstance(first.annotation, str):
        return _names_context(first.annotation.strip("'\""), getattr(function, "__globals__", {}))
    return first.annotation is Context


def _names_context(annotation: str, names: Mapping[str, Any]) -> bool:
    """Return whether a postponed annotation means Context; nothing is evaluated."""
    head, *rest = annotation.split(".")
    if head not in names:  # imported under TYPE_CHECKING only
        return annotation in {"Context", "heavylift.Context", "heavylift.task.Context"}
    value = names[head]
    for part in rest:
        value = getattr(value, part, None)
    return value is Context
