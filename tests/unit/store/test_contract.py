"""The scripts and the Python side name the same things."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files

import pytest

from heavylift.contract import limits
from heavylift.contract.keys import Field, Keys
from heavylift.contract.states import RQ_STATUS
from heavylift.store import scripts

LIB = "".join((files("heavylift.store.scripts") / part).read_text() for part in ("_lib.lua", "_moves.lua", "_ends.lua"))


def _own(name: str) -> str:
    return (files("heavylift.store.scripts") / f"{name}.lua").read_text()


def test_lua_keys_are_the_contracts_keys() -> None:
    """Each key the scripts build is one of the contract's, letter for letter."""
    keys = Keys("R", "O")
    known = set()
    for name, function in inspect.getmembers(Keys, inspect.isfunction):
        if name.startswith("_") or name in {"from_env", "level", "lock"}:
            continue
        known.add(function(keys, *("{}" for _ in list(inspect.signature(function).parameters)[1:])))
    built = set()
    for body in re.findall(r"^(?:function )?K\.\w+(?:\([^)]*\) return| =) (.+?)(?: end)?$", LIB, re.MULTILINE):
        if " and " in body:
            continue  # level: compared below
        parts = [part.strip() for part in body.split("..")]
        values = {"RQ": "R", "US": "O"}
        built.add("".join(part.strip("'") if part.startswith("'") else values.get(part, "{}") for part in parts))
    assert len(built) > 30
    assert built <= known
    assert keys.level("q", 5) == "R:queue:q@5"
    assert "RQ .. ':queue:' .. q .. '@'" in LIB


def test_every_side_field_is_read_back() -> None:
    """Each side field of the contract is among those a job is read by, and no other is."""
    listed = set(re.findall(r"'(hl:\w+)'", LIB[LIB.index("L.FIELDS = {") : LIB.index("L.EXECUTION_FIELDS")]))
    declared = {value for name, value in vars(Field).items() if not name.startswith("_") and isinstance(value, str)}
    assert listed == declared


def test_states_are_the_contracts() -> None:
    """The scripts' table of states is the contract's."""
    table = LIB[LIB.index("L.STATES = {") : LIB.index("L.STATUS = {")]
    found = dict(re.findall(r"(\w+) = '([\w-]+)'", table))
    assert found == {status: state.value for status, state in RQ_STATUS.items()}


def test_limits_written_in_lua_are_the_contracts() -> None:
    """Bounds that stand in Lua as numbers are those of the contract."""
    assert f"'~', '{limits.EVENTS_MAXLEN}'" in LIB
    assert f"K.quarantine(q), 0, {limits.QUARANTINE_MAX - 1}" in LIB
    assert f"#lines - {limits.HISTORY_MAX - 1}, 1" in LIB
    assert f"L.trim(q, state, {limits.RETENTION_STEP - 1} + #own.ids, own.keep)" in LIB


@pytest.mark.parametrize("name", scripts.names())
def test_every_script_says_what_it_takes_and_returns(name: str) -> None:
    """The header of each script documents its arguments and its reply."""
    header = re.match(r"(--[^\n]*\n)+", _own(name))
    assert header is not None
    assert "ARGV: prefix, prefix" in header[0]
    assert "Returns:" in header[0]


@pytest.mark.parametrize("name", scripts.names())
def test_scripts_keep_to_redis_time_and_plain_commands(name: str) -> None:
    """No script uses a command that walks a whole keyspace or queue."""
    text = scripts.load(name).text
    assert not re.search(r"'(KEYS|SCAN|HSCAN|SORT|FLUSHALL|FLUSHDB)'", text)
    assert "os.time" not in text
