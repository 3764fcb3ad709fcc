"""Values that producers make of the same words for each job of a batch: made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def remembered(make: Callable[P, T]) -> Callable[P, T]:
    """Return a pure function that gives one object for the same arguments, 256 of them; 1, 1.0 and True differ.

    Arguments that cannot be keys are passed on each time, and so are those that ``make`` refuses.
    """
    known = lru_cache(maxsize=256, typed=True)(make)

    @wraps(make)
    def found(*args: P.args, **options: P.kwargs) -> T:
        try:
            return known(*args, **options)  # type: ignore[arg-type]  # that they can be keys is tried
        except TypeError:
            return make(*args, **options)

    return found
