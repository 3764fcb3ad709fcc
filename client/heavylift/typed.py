"""A task's data held against its function's annotations: when enqueued, and in the pod before the call.

Standard library only: a pydantic model is asked by its own methods, so pydantic is loaded where the task loads it.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.contract.plain import to_plain
from heavylift.values import convert, fields_of, resolve, simple

_NAMED = frozenset({inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})


@dataclass(frozen=True, slots=True)
class Schema:
    """What a function takes; ``whole`` names the one parameter that is the job's data as a whole, if there is one."""

    signature: inspect.Signature
    kinds: Mapping[str, Any]
    """Parameter -> annotation; Any where there is none, or none that can be resolved."""
    whole: str | None = None

    @classmethod
    def of(cls, function: Callable[..., Any], *, skip_first: bool, check: bool = True) -> Schema:
        """Return what a function takes.

        Args:
            function: the task's.
            skip_first: its first parameter is the Context.
            check: whether annotations count.
        """
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[skip_first:]
        signature = signature.replace(parameters=parameters)
        annotations = {p.name: p.annotation for p in parameters if p.annotation is not inspect.Parameter.empty}
        found = resolve(annotations, getattr(function, "__globals__", {})) if check else {}
        only = parameters[0] if len(parameters) == 1 else None
        variadic = only is not None and only.kind in {only.VAR_KEYWORD, only.VAR_POSITIONAL}
        is_whole = only is not None and not variadic and fields_of(found.get(only.name)) is not None
        return cls(signature, found, only.name if only is not None and is_whole else None)

    def data(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as data: a mapping by name, or ``{"args", "kwargs"}`` where names do not suffice.

        A single model is the data itself.

        Raises:
            TypeError: the function does not take these arguments.
            InvalidPayloadError: JSON cannot hold one, or it is not what its annotation says; the message names it.
        """
        bound = self.signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = to_plain(simple(value), f"data.{name}")
        self._converted(bound)
        if self.whole is not None and self.whole in bound.arguments:
            whole = bound.arguments[self.whole]
            if isinstance(whole, dict):
                return whole
        by_name = all(self.signature.parameters[name].kind in _NAMED for name in bound.arguments)
        if by_name and bound.arguments.keys() != {"args", "kwargs"}:
            return dict(bound.arguments)
        return {"args": list(bound.args), "kwargs": dict(bound.kwargs)}

    def call(self, args: list[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments to call the function with, made of a job's data.

        Raises:
            TypeError: the function does not take such arguments.
            InvalidPayloadError: one is not what its annotation says; the message names it by its path.
        """
        if self.whole is not None and not args and not self._is_wrapped(kwargs) and not self._is_left_out(kwargs):
            by_name = self.signature.parameters[self.whole].kind is inspect.Parameter.KEYWORD_ONLY
            args, kwargs = ([], {self.whole: dict(kwargs)}) if by_name else ([dict(kwargs)], {})
        bound = self._converted(self.signature.bind(*args, **kwargs))
        return bound.args, bound.kwargs

    def _is_left_out(self, kwargs: Mapping[str, Any]) -> bool:
        """Return whether there is no data and the one parameter has a default."""
        return not kwargs and self.signature.parameters[self.whole or ""].default is not inspect.Parameter.empty

    def _is_wrapped(self, kwargs: Mapping[str, Any]) -> bool:
        """Return whether the data is one argument by name although the parameter is the data itself."""
        known = fields_of(self.kinds[self.whole]) if self.whole else None
        return kwargs.keys() == {self.whole} and known is not None and self.whole not in known

    def _converted(self, bound: inspect.BoundArguments) -> inspect.BoundArguments:
        made = dict(bound.arguments)
        for name, value in bound.arguments.items():
            parameter, kind = self.signature.parameters[name], self.kinds.get(name, Any)
            where = "data" if name == self.whole else f"data.{name}"
            if parameter.kind is parameter.VAR_POSITIONAL:
                made[name] = tuple(convert(item, kind, f"{where}[{index}]") for index, item in enumerate(value))
            elif parameter.kind is parameter.VAR_KEYWORD:
                made[name] = {key: convert(item, kind, f"data.{key}") for key, item in value.items()}
            elif value is None and parameter.default is None:
                made[name] = None
            else:
                made[name] = convert(value, kind, where)
        return inspect.BoundArguments(self.signature, OrderedDict(made))
