"""Which function a job's task name means: registered tasks, and undecorated functions a pattern admits."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from types import FunctionType

from heavylift.contract.ids import printable
from heavylift.errors import ConfigurationError
from heavylift.tasks import Task, TaskSettings, find, registered


class UnknownTaskError(ConfigurationError):
    """No function for this task in this image."""


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules the template's owner named; their ``@task`` functions register themselves."""
    for module in modules:
        importlib.import_module(module)


def resolve(name: str, modules: Sequence[str], allowed: Sequence[str]) -> Task[..., object]:
    """Return the task to run.

    Args:
        name: from the job: chosen by whoever enqueued it.
        modules: what was imported, for the message.
        allowed: patterns over dotted paths; a function is admitted only if its own home matches one too.

    Raises:
        UnknownTaskError: nothing of this name may run here; the message lists what may.
    """
    found = find(name)
    if found is not None:
        return found
    if any(fnmatchcase(name, pattern) for pattern in allowed):
        return _admitted(name, allowed)
    known = ", ".join(sorted(registered())) or "none"
    hint = f"; --allow admits {', '.join(allowed)}" if allowed else ""
    where = f" in {', '.join(modules)}" if modules else ""  # in memory nobody names modules
    remedy = "name its module in the container's command" if modules else "import its module"
    raise UnknownTaskError(
        f"no task named {printable(name)!r}{where}: registered are {known}{hint}. "
        f"Decorate the function with @heavylift.task, or {remedy}"
    )


def _admitted(name: str, allowed: Sequence[str]) -> Task[..., object]:
    module_name, _, attribute = name.rpartition(".")
    try:
        value = getattr(importlib.import_module(module_name), attribute) if module_name else None
    except (ImportError, AttributeError) as error:
        raise UnknownTaskError(f"task {printable(name)!r} is admitted by --allow but missing: {error}") from error
    if isinstance(value, Task):
        return value
    if not isinstance(value, FunctionType):
        raise UnknownTaskError(f"task {printable(name)!r} is admitted by --allow but is no function")
    home = f"{value.__module__}.{value.__qualname__}"
    if not any(fnmatchcase(home, pattern) for pattern in allowed):
        raise UnknownTaskError(f"task {printable(name)!r} comes from {home}, which no --allow pattern admits")
    return Task(value, TaskSettings(name=name, validate=False))  # written for RQ, which never looked at annotations
