"""What ``import heavylift`` gives, and what it loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import heavylift

SOURCE = Path(heavylift.__file__)


def test_every_public_name_loads() -> None:
    """Each name in __all__ is there, and is the one its module defines."""
    for name in heavylift.__all__:
        assert getattr(heavylift, name) is not None


def test_names_for_type_checkers_are_the_names_at_run_time() -> None:
    """What type checkers see and what loads lazily is one list."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert {*seen, "__version__"} == set(heavylift.__all__)
    for name, module in seen.items():
        assert getattr(heavylift, name) is getattr(sys.modules[str(module)], name)


def test_all_errors_are_public() -> None:
    """Whoever catches an error finds it in the package."""
    errors = sys.modules["heavylift.errors"]

    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == errors.__name__:
            assert name in heavylift.__all__


def test_unknown_name_is_an_attribute_error() -> None:
    """A typing error is reported as Python does."""
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = heavylift.Clint  # type: ignore[attr-defined]  # not there on purpose


@pytest.mark.parametrize("code", ["import heavylift", "import heavylift; heavylift.task; heavylift.UnrecoverableError"])
def test_import_loads_the_standard_library_only(code: str) -> None:
    """Importing the package, and using what tasks need, loads nothing installed."""
    program = (
        f"import sys; before = set(sys.modules); {code}\n"
        "heads = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(heads - set(sys.stdlib_module_names) - {'heavylift'}))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_decorator_survives_the_import_of_its_module() -> None:
    """``heavylift.task`` stays the decorator whatever was imported before."""
    program = "import heavylift.tasks, heavylift.pod.command, heavylift; print(heavylift.task.__name__)"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "task"
