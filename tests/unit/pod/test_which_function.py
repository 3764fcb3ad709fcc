"""Which function a task name means in the pod: registered ones, and what --allow admits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.pod.conftest import Pod

ADD = """
@heavylift.task
def main(a: int, b: int = 1) -> int:
    return a + b
"""


def test_unknown_task_lists_the_registered_ones(pod: Pod) -> None:
    """An unknown name fails for good and lists what the image has."""
    pod.module(ADD + "@heavylift.task(name='yearly')\ndef other() -> None: ...")

    ran = pod.run(task="annual")

    assert ran.code == 64
    assert "no task named 'annual'" in ran.envelope["error"]["message"]
    assert "registered are main, yearly" in ran.envelope["error"]["message"]


def test_registered_task_answers_to_its_dotted_path(pod: Pod) -> None:
    """Plain RQ names functions by path: a registered one is found by it."""
    pod.module(ADD)

    assert pod.run(task="work.main", data={"args": [1], "kwargs": {}}).envelope["result"] == 2


def test_undecorated_function_needs_allow(pod: Pod) -> None:
    """A path that nobody registered runs only where a pattern admits it."""
    pod.module("def plain(x: int) -> int:\n    return x * 2")

    refused = pod.run(task="work.plain", data={"x": 4})
    admitted = pod.run("work", "--allow", "work.*", task="work.plain", data={"x": 4})

    assert refused.code == 64
    assert admitted.envelope["result"] == 8


@pytest.mark.parametrize("name", ["work.os.getcwd", "work.getcwd", "os.getcwd", "work.Thing", "work.missing", "work."])
def test_allow_admits_only_functions_at_home_there(pod: Pod, name: str) -> None:
    """A pattern never reaches what the user's module only imported, nor classes or missing names."""
    pod.module("import os\nfrom os import getcwd\nfrom shutil import rmtree\nclass Thing: ...")

    ran = pod.run("work", "--allow", "work.*", task=name)

    assert ran.code == 64
    assert ran.envelope["error"]["type"] == "UnknownTaskError"


def test_function_imported_from_elsewhere_is_not_admitted(pod: Pod) -> None:
    """A function that lives in another module does not become callable by being imported."""
    pod.module("from shutil import rmtree")

    ran = pod.run("work", "--allow", "work.*", task="work.rmtree", data={"path": str(pod.folder)})

    assert ran.code == 64
    assert "comes from shutil.rmtree" in ran.envelope["error"]["message"]
