"""Reading tallies out of a queue's counters."""

from __future__ import annotations

import re
from importlib.resources import files

from hypothesis import given
from hypothesis import strategies as st

from heavylift.contract import limits
from heavylift.store import tallies


def test_the_bounds_in_lua_are_the_contracts() -> None:
    """The script that counts and the code that reads agree on every bucket."""
    text = (files("heavylift.store.scripts") / "_tally.lua").read_text()
    table = re.search(r"L\.BOUNDS = \{(.*?)\}", text, re.DOTALL)
    assert table is not None
    assert tuple(int(bound) for bound in re.findall(r"\d+", table[1])) == limits.WAIT_BOUNDS_MS
    assert sorted(limits.WAIT_BOUNDS_MS) == list(limits.WAIT_BOUNDS_MS)


def test_buckets_are_cumulated_for_prometheus() -> None:
    """Each bucket holds those before it; the last is all."""
    found = tallies.read({"wait:10": 2, "wait:500": 1, "wait:inf": 4, "wait:sum": 9, "wait:10:annual": 7})
    bounds = dict(found.waits[""].cumulated)
    assert (bounds["0.01"], bounds["0.25"], bounds["0.5"], bounds["86400.0"], bounds["+Inf"]) == (2, 2, 3, 3, 7)
    assert found.waits[""].sum_ms == 9
    assert dict(found.waits["annual"].cumulated)["+Inf"] == 7


_NAMES = st.one_of(
    st.text(max_size=30),
    st.builds(":".join, st.lists(st.sampled_from(("wait", "outcome", "10", "inf", "sum", "oom", "1", "x" * 300, "")))),
)


@given(st.dictionaries(_NAMES, st.integers(-5, 5)))
def test_strange_counters_are_left_out(counters: dict[str, int]) -> None:
    """Whatever stands in the hash: known classes, known bounds, few tasks, no negative count."""
    found = tallies.read(counters)
    assert set(found.outcomes) <= {("oom", True), ("oom", False)}
    assert all(len(task) <= limits.TASK_NAME_MAX for task in found.waits)
    assert all(count >= 0 for histogram in found.waits.values() for count in histogram.counts)


def test_only_so_many_tasks_are_told_apart() -> None:
    """Somebody else's fields cannot blow up the number of series."""
    found = tallies.read({f"wait:10:task{n}": 1 for n in range(1000)})
    assert len(found.waits) <= limits.TALLIED_TASKS_MAX + 1
