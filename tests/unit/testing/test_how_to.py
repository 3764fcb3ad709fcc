"""The page on testing: what it shows runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "test-your-code.md"


def test_the_examples_run() -> None:
    """Each block of Python runs, and each test in it passes."""
    names: dict[str, Any] = {"__name__": "how_to_test_your_code"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)  # noqa: S102 - our own page
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()
