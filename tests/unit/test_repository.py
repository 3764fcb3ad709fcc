"""Rules about the tree itself that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FUNCTION_LINES = 40
FILE_LINES = 400


def tracked(*patterns: str) -> list[Path]:
    """Return the files git tracks or would track."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in out.split("\0") if name and (path := ROOT / name).is_file()]


def function_sizes(path: Path) -> list[tuple[str, int]]:
    """Return each function's name and its lines without the docstring."""
    sizes = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            doc = (first.end_lineno or first.lineno) - first.lineno + 1 if is_doc else 0
            sizes.append((node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - doc))
    return sizes


@pytest.mark.parametrize("folder", ["client", "worker", "operator"])
def test_source_roots_are_no_packages(folder: str) -> None:
    """A package named operator would shadow Python's own module, so no root folder is one."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_functions_stay_small() -> None:
    """No function has more than 40 lines without its docstring."""
    large = [
        f"{path.relative_to(ROOT)}: {name} has {lines} lines"
        for path in tracked("*.py")
        for name, lines in function_sizes(path)
        if lines > FUNCTION_LINES
    ]

    assert large == []


def test_files_stay_small() -> None:
    """No source file has more than 400 lines."""
    large = [
        f"{path.relative_to(ROOT)} has {lines} lines"
        for path in tracked("*.py", "*.lua", "*.sh")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    ]

    assert large == []


def test_makefile_stays_an_index() -> None:
    """The Makefile has at most 100 lines and every target that people call says what it does."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"\.PHONY:((?:.*\\\n)*.*)", text)

    assert len(text.splitlines()) <= 100
    assert phony is not None
    for target in phony.group(1).replace("\\", " ").split():
        assert re.search(rf"^{target}:.*## ", text, re.MULTILINE), f"{target} has no description"


def locked_versions() -> dict[str, str]:
    """Return name -> version of the lock file."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    return {canonicalize_name(package["name"]): package["version"] for package in lock["package"]}


def declared_requirements() -> list[Requirement]:
    """Return every requirement pyproject declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    return [Requirement(text) for group in groups for text in group if isinstance(text, str)]


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_lock_holds_every_dependency(requirement: Requirement) -> None:
    """The committed lock satisfies every requirement that pyproject declares."""
    version = locked_versions().get(canonicalize_name(requirement.name))

    assert version is not None, "run `make lock`"
    assert requirement.name == "heavylift" or requirement.specifier.contains(version), "run `make lock`"


def test_lock_names_no_host() -> None:
    """The lock serves behind any mirror because it names none."""
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text(encoding="utf-8")))

    assert hosts == {"index.invalid"}
