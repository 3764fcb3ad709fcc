"""What the docs draw and list, compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from heavylift import errors
from heavylift.contract.names import Env, ExitCode
from heavylift.contract.outcomes import CONFIGURABLE, OutcomeClass
from heavylift.contract.states import RQ_STATUS, STATUS_WRITTEN, TRANSITIONS, JobState, Phase
from heavylift.options import EnqueueOptions
from heavylift.spec.status import ReadyReason
from heavylift_worker.troubles import KINDS

DOCS = Path(__file__).resolve().parents[3] / "docs"
_EDGE = re.compile(r"^\s+(\S+) --> (\S+): (\w+)$", re.MULTILINE)


def rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of the Markdown table whose header row starts with ``header``."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {header}"):
            next(lines)
            break
    else:
        raise AssertionError(f"no table starts with {header!r}")
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def code(cell: str) -> str:
    """Return a cell without its backticks."""
    return cell.strip("`")


def test_each_drawn_transition_exists_and_each_transition_is_drawn() -> None:
    """The chart and TRANSITIONS hold the same arrows."""

    def state(word: str) -> JobState | None:
        return None if word == "[*]" else JobState(word.replace("_", "-"))

    drawn = [
        (operation, state(start), state(end))
        for start, end, operation in _EDGE.findall((DOCS / "state-machine.md").read_text())
    ]

    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(name, *pair) for name, pairs in TRANSITIONS.items() for pair in pairs}


def test_the_table_of_states_has_each_state_with_the_status_we_write() -> None:
    """States, RQ's words and their order are those of the code."""
    table = rows((DOCS / "state-machine.md").read_text(), "state")

    assert {code(row[0]): code(row[1]) for row in table} == {
        state.value: status for state, status in STATUS_WRITTEN.items()
    }
    assert set(RQ_STATUS) - set(STATUS_WRITTEN.values()) == {"created", "ready_to_enqueue", "rate_limited", "stopped"}


def test_the_table_of_phases_is_complete() -> None:
    """Each phase of an active job is explained."""
    assert [code(row[0]) for row in rows((DOCS / "state-machine.md").read_text(), "phase")] == [p.value for p in Phase]


def test_the_glossary_spells_each_outcome_class_as_the_code_does() -> None:
    """Three spellings of each class, in the code's order; a dash where no rule can be given."""
    table = rows((DOCS / "glossary.md").read_text(), "Python, Redis")

    assert [[code(cell) for cell in row[:3]] for row in table] == [
        [each.value, each.spec_key if each in CONFIGURABLE else "-", each.reason] for each in OutcomeClass
    ]
    assert all(row[3] for row in table)


def test_each_word_of_the_glossary_is_explained_once() -> None:
    """One word per thing."""
    words = [row[0] for row in rows((DOCS / "glossary.md").read_text(), "word")]

    assert len(words) == len(set(words))
    assert all(word.startswith("**") for word in words)


def _public(holder: type) -> set[str]:
    """Return the values of a class's public names."""
    return {str(value) for name, value in vars(holder).items() if not name.startswith("_")}


def test_the_reference_lists_each_variable_a_pod_gets() -> None:
    """The environment of the any-language contract, neither more nor less."""
    table = rows((DOCS / "reference" / "pod.md").read_text(), "variable")

    assert {code(row[0]) for row in table} == _public(Env)


def test_the_reference_lists_each_exit_code_with_a_meaning() -> None:
    """0, 64, 75, 137 and 143."""
    table = rows((DOCS / "reference" / "pod.md").read_text(), "exit code")

    assert {code(row[0]) for row in table} - {"any other"} == _public(ExitCode)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_tables_are_whole(page: Path) -> None:
    """Each row of a table has as many cells as its header."""
    width = 0
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line)))
        width = width or cells
        assert cells == width, line


def test_the_options_of_enqueue_are_those_of_the_client() -> None:
    """Each option there is, in the client's order."""
    table = rows((DOCS / "reference" / "python.md").read_text(), "option")

    assert [code(row[0]) for row in table] == list(EnqueueOptions.__annotations__)


def test_the_tree_of_errors_is_the_one_there_is() -> None:
    """Names and parents; each error that `import heavylift` offers is drawn."""
    text = (DOCS / "reference" / "python.md").read_text()
    drawn = re.findall(r"^([│ ]*)[├└]── (\w+)", text, re.MULTILINE)
    path = ["HeavyliftError"]
    for indent, name in drawn:
        depth = len(indent) // 4 + 1
        path[depth:] = [name]
        assert issubclass(getattr(errors, name), getattr(errors, path[depth - 1]))

    known = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert {name for _, name in drawn} | {"HeavyliftError"} == known


def test_each_reason_of_ready_has_its_remedy() -> None:
    """The troubleshooting guide knows every reason that Ready=False can have."""
    table = rows((DOCS / "how-to" / "troubleshoot.md").read_text(), "reason | means")
    known = {reason.value for reason in ReadyReason} | set(KINDS.values())

    assert {code(row[0]) for row in table} == known - {ReadyReason.SERVING.value}
    assert all(all(row) for row in table)
