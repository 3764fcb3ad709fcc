"""Quantities as Kubernetes reads them."""

from __future__ import annotations

import re

import pytest

from heavylift.errors import InvalidInputError
from heavylift.spec import quantities

CASES = {
    "0": 0,
    "2": 2000,
    "500m": 500,
    "1.5": 1500,
    ".5": 500,
    "1n": 1,
    "64Ki": 65_536_000,
    "1.5Gi": 1_610_612_736_000,
    "2e3": 2_000_000,
    "1E": 10**21,
    "1E2": 100_000,
    "3k": 3_000_000,
}


@pytest.mark.parametrize(("text", "milli"), CASES.items())
def test_quantities_are_read_as_kubernetes_reads_them(text: str, milli: int) -> None:
    """Thousandths, rounded up; the schema's pattern admits the same text."""
    assert quantities.to_milli(text) == milli
    assert quantities.to_bytes(text) == -(-milli // 1000)
    assert re.fullmatch(quantities.PATTERN, text)


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "1gb", "Ki", "1KI", "1e999", "NaN", "0x10", "1" * 33, "\u0661"])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(InvalidInputError, match="write it like 64Ki"):
        quantities.to_milli(text)
