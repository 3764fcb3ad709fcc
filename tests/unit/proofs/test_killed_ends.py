"""Lives and ends of jobs must alternate: each breach of it is found, and a sound history is left alone."""

from __future__ import annotations

import pytest

from tests.proofs.history import Line
from tests.proofs.killed.run import ends

_FIELDS = {"waiting": {"reason": "retry"}, "due": {"reason": "due"}, "removed": {"final": "0"}}
_FINAL = {"final": "1"}


def lines(text: str) -> list[Line]:
    """Return one job's events by name; a name with an exclamation mark is a terminal one."""
    found = []
    for n, word in enumerate(text.split()):
        name = word.rstrip("!")
        fields = _FINAL if word.endswith("!") else _FIELDS.get(name, {})
        found.append(Line(f"{n}-0", "q", "waiting" if name == "due" else name, "a", n, fields))
    return found


@pytest.mark.parametrize(
    ("story", "sentences"),
    [
        ("added active completed!", []),
        ("added active failed! waiting active completed! removed added active cancelled!", []),
        ("added active retrying due active removed!", []),
        ("added active completed! failed!", ["job a: failed at 3 of one that has ended"]),
        ("added added completed!", ["job a: added at 1 of one that lives"]),
        ("added waiting completed!", ["job a: waiting at 1 of one that lives"]),
        ("completed!", ["job a: completed at 0 of one that has ended"]),
        ("added active", ["job a has no end"]),
    ],
)
def test_lives_and_ends_alternate(story: str, sentences: list[str]) -> None:
    """One end for each enqueue and each retry."""
    assert ends(lines(story)) == sentences
