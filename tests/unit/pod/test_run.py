"""``heavylift run`` as a real process: arguments, results, errors, exit codes, SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from heavylift.contract import envelope

if TYPE_CHECKING:
    from tests.unit.pod.conftest import Pod

EXECUTION = "abcdefghijklmnop-1"

ECHO = """
@heavylift.task
def main(**given: object) -> object:
    return given
"""
ADD = """
@heavylift.task
def main(a: int, b: int = 1) -> int:
    return a + b
"""
CONTEXT = """
@heavylift.task
def main(ctx: heavylift.Context, year: int) -> dict[str, object]:
    return {"job": ctx.job_id, "attempt": ctx.attempt, "execution": ctx.execution, "queue": ctx.queue, "year": year}
"""


def test_result_is_written_as_envelope_of_this_execution(pod: Pod) -> None:
    """A returned value ends with exit code 0 and an envelope that carries the execution."""
    pod.module(ECHO)

    ran = pod.run(data={"year": 2026, "näme": "Zoë $(HOME) $$5"})

    assert ran.code == 0
    decoded = envelope.decode(ran.written, EXECUTION)
    assert (decoded.kind, decoded.value_json) == ("result", '{"year":2026,"näme":"Zoë $(HOME) $$5"}')


def test_mapping_becomes_keyword_arguments(pod: Pod) -> None:
    """Data that is a mapping is the keyword arguments."""
    pod.module(ADD)

    assert pod.run(data={"a": 41}).envelope["result"] == 42


def test_mapping_of_exactly_args_and_kwargs_is_both(pod: Pod) -> None:
    """Plain RQ's shape is positional and keyword arguments."""
    pod.module(ADD)

    assert pod.run(data={"args": [1], "kwargs": {"b": 6}}).envelope["result"] == 7


def test_context_is_passed_to_a_function_that_wants_it(pod: Pod) -> None:
    """A first parameter annotated heavylift.Context gets the job's own values."""
    pod.module(CONTEXT)
    pod.env["HEAVYLIFT_JOB_ATTEMPT"] = "3"

    result = pod.run(data={"year": 2026}).envelope["result"]

    want = {"job": "job-1", "attempt": 3, "execution": EXECUTION, "queue": "reports", "year": 2026}
    assert want == result


def test_context_is_recognised_when_annotations_are_postponed(pod: Pod) -> None:
    """Annotations kept as text are understood, even of names imported for type checkers only."""
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from heavylift import Context\n"
    code += "@heavylift.task\ndef main(ctx: 'Context') -> str:\n    return ctx.job_id\n"
    pod.module(code)

    assert pod.run().envelope["result"] == "job-1"


def test_coroutine_function_is_awaited(pod: Pod) -> None:
    """An async task runs to its end."""
    pod.module("@heavylift.task\nasync def main() -> str:\n    return 'awaited'")

    assert pod.run().envelope["result"] == "awaited"


@pytest.mark.parametrize(
    ("code", "want_exit", "want"),
    [
        pytest.param("raise OSError('disk full')", 1, {"type": "OSError", "message": "disk full"}, id="any error"),
        pytest.param(
            "raise heavylift.UnrecoverableError('no such year')",
            64,
            {"type": "UnrecoverableError", "message": "no such year"},
            id="unrecoverable",
        ),
        pytest.param("raise KeyError", 1, {"type": "KeyError", "message": "KeyError"}, id="error without a message"),
        pytest.param("raise SystemExit(3)", 3, {"type": "SystemExit"}, id="sys.exit with a code"),
        pytest.param("raise SystemExit(256)", 1, {"type": "SystemExit"}, id="sys.exit(256) is no success"),
        pytest.param("raise SystemExit('bad input')", 1, {"message": "bad input"}, id="sys.exit with a message"),
        pytest.param("return object()", 64, {"type": "InvalidPayloadError"}, id="result is not JSON"),
        pytest.param("return {'a': [1, float('nan')]}", 64, {"type": "InvalidPayloadError"}, id="result with NaN"),
    ],
)
def test_errors_have_their_exit_code_and_type(pod: Pod, code: str, want_exit: int, want: dict[str, str]) -> None:
    """Each way to fail has its exit code and a typed envelope; 64 and noRetry go together."""
    pod.module(f"@heavylift.task\ndef main() -> object:\n    {code}")

    ran = pod.run()

    assert ran.code == want_exit
    assert want.items() <= ran.envelope["error"].items()
    assert ran.envelope.get("noRetry", False) is (want_exit == 64)


def test_error_carries_the_traceback_of_the_users_code(pod: Pod) -> None:
    """The traceback starts in the user's module: the runner's own frames help nobody."""
    pod.module("@heavylift.task\ndef main() -> None:\n    raise OSError('disk full')")

    ran = pod.run()

    trace = ran.envelope["error"]["traceback"]
    assert trace.endswith("OSError: disk full")
    assert "work.py" in trace
    assert "heavylift/pod" not in trace
    assert trace in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "error", "want"),
    [
        pytest.param("no_retry_on=(ValueError,)", "UnicodeError('x')", 64, id="a subclass of no_retry_on"),
        pytest.param("no_retry_on=(ValueError,)", "OSError('x')", 1, id="not in no_retry_on"),
        pytest.param("retry_on=(OSError,)", "ConnectionError('x')", 1, id="a subclass of retry_on"),
        pytest.param("retry_on=(OSError,)", "ValueError('x')", 64, id="not in retry_on"),
        pytest.param("retry_on=(OSError,), no_retry_on=(TimeoutError,)", "TimeoutError('x')", 64, id="in both"),
    ],
)
def test_retry_on_and_no_retry_on_decide(pod: Pod, arguments: str, error: str, want: int) -> None:
    """``retry_on`` names all that is retried, ``no_retry_on`` is stronger."""
    pod.module(f"@heavylift.task({arguments})\ndef main() -> None:\n    raise {error}")

    ran = pod.run()

    assert (ran.code, ran.envelope.get("noRetry", False)) == (want, want == 64)


@pytest.mark.parametrize(
    ("error", "want_exit", "want"),
    [
        ("heavylift.Snooze('10m')", 75, {"snooze": True, "delayMs": 600_000}),
        ("heavylift.RateLimited('1m', 'api says 429')", 75, {"snooze": True, "delayMs": 60_000}),
        ("heavylift.RetryAfter('2m')", 1, {"delayMs": 120_000}),
    ],
)
def test_delays_asked_for_by_the_task(pod: Pod, error: str, want_exit: int, want: dict[str, Any]) -> None:
    """Snooze and RateLimited spend no attempt (75), RetryAfter does; each names its delay."""
    pod.module(f"@heavylift.task\ndef main() -> None:\n    raise {error}")

    ran = pod.run()

    assert ran.code == want_exit
    assert want.items() <= ran.envelope.items()


def test_backoff_function_is_called_in_the_pod(pod: Pod) -> None:
    """A backoff function sees the failure and decides the delay."""
    pod.module(
        "def wait(failure: heavylift.Failure) -> str:\n    return f'{failure.attempt * 10}s'\n"
        "@heavylift.task(backoff=wait)\ndef main() -> None:\n    raise OSError('x')"
    )
    pod.env["HEAVYLIFT_JOB_ATTEMPT"] = "4"

    assert pod.run().envelope["delayMs"] == 40_000


def test_broken_backoff_function_does_not_hide_the_error(pod: Pod) -> None:
    """When the backoff function itself fails, the job's own error is still the one reported."""
    pod.module("@heavylift.task(backoff=lambda f: 1 / 0)\ndef main() -> None:\n    raise OSError('disk full')")

    ran = pod.run()

    assert (ran.code, ran.envelope["error"]["message"]) == (1, "disk full")
    assert "ZeroDivisionError" in ran.stderr
    assert "delayMs" not in ran.envelope


def test_too_large_result_says_return_a_reference(pod: Pod) -> None:
    """A result that does not fit 4,096 bytes fails for good, with the remedy."""
    pod.module("@heavylift.task\ndef main() -> str:\n    return 'x' * 4096")

    ran = pod.run()

    assert ran.code == 64
    assert "return a reference" in ran.envelope["error"]["message"]


def test_long_error_fits_the_termination_message(pod: Pod) -> None:
    """An endless message is cut to 4,096 bytes, of UTF-8, and is still valid."""
    pod.module("@heavylift.task\ndef main() -> None:\n    raise OSError('é\"' * 100_000)")

    ran = pod.run()

    assert len(ran.written.encode()) <= 4096
    decoded = envelope.decode(ran.written, EXECUTION)
    assert (decoded.kind, decoded.error_type) == ("error", "OSError")
    assert len(decoded.message) > 1000


@pytest.mark.parametrize(
    ("data", "want"),
    [
        ({"b": 2}, "missing a required argument: 'a'"),
        ({"a": 1, "z": 2}, "unexpected keyword argument 'z'"),
        ([1, 2], "the data is a list"),
    ],
)
def test_data_that_does_not_fit_fails_for_good(pod: Pod, data: object, want: str) -> None:
    """Data the function cannot take is named, and no attempt is wasted on it."""
    pod.module(ADD)

    ran = pod.run(data=data)

    assert ran.code == 64
    assert want in ran.envelope["error"]["message"]


def test_type_error_inside_the_task_is_its_own(pod: Pod) -> None:
    """A TypeError of the user's code is an ordinary error, not a complaint about the data."""
    pod.module("@heavylift.task\ndef main() -> None:\n    len(3)")

    ran = pod.run()

    assert (ran.code, ran.envelope["error"]["type"]) == (1, "TypeError")


def test_module_that_cannot_be_imported_says_so(pod: Pod) -> None:
    """An import error is the job's error, with the traceback of the import."""
    pod.module("import a_module_nobody_has")

    ran = pod.run()

    assert (ran.code, ran.envelope["error"]["type"]) == (1, "ModuleNotFoundError")
    assert "work.py" in ran.envelope["error"]["traceback"]


def test_two_tasks_of_one_name_are_refused(pod: Pod) -> None:
    """Which of two would run must never depend on the order of imports."""
    pod.module(ADD)
    pod.module(ECHO, name="second")

    ran = pod.run("work", "second")

    assert ran.code == 1
    assert "two tasks are named 'main'" in ran.envelope["error"]["message"]


def test_progress_without_the_api_raises(pod: Pod) -> None:
    """What needs the API is never a silent no-op."""
    pod.module("@heavylift.task\ndef main(ctx: heavylift.Context) -> None:\n    ctx.progress(40)")

    ran = pod.run()

    assert (ran.code, ran.envelope["error"]["type"]) == (1, "ConfigurationError")
    assert "needs the Heavylift API" in ran.envelope["error"]["message"]


@pytest.mark.parametrize("name", ["HEAVYLIFT_JOB_ID", "HEAVYLIFT_JOB_TASK", "HEAVYLIFT_JOB_PAYLOAD"])
def test_outside_a_pod_the_missing_variable_is_named(pod: Pod, name: str) -> None:
    """Started by hand, it says what is missing and how to try a task."""
    pod.module(ADD)
    del pod.env[name]

    ran = pod.finish(pod.start())

    assert ran.code == 2
    assert name in ran.stderr
    assert "Traceback" not in ran.stderr


def test_result_file_that_cannot_be_written_is_found_before_the_work(pod: Pod) -> None:
    """Hours of work must not end at a file that cannot be written."""
    pod.module("print('working')\n" + ADD)
    pod.env["HEAVYLIFT_JOB_RESULT_FILE"] = str(pod.folder / "missing" / "file")

    ran = pod.finish(pod.start())

    assert ran.code == 2
    assert "result file" in ran.stderr
    assert "working" not in ran.stdout


def test_only_the_standard_library_is_loaded(pod: Pod) -> None:
    """A pod's image needs nothing but Heavylift's own files: no redis, rq, pydantic, typer, rich, yaml."""
    pod.module(
        "import dataclasses, sys\n@dataclasses.dataclass\nclass Data:\n    year: int = 1\n"
        "@heavylift.task\ndef main(ctx: heavylift.Context, data: Data) -> list[str]:\n"
        "    for page in ctx.resume(range(2)):\n        ctx.checkpoint({'page': page})\n"
        "    heads = {name.partition('.')[0] for name in sys.modules}\n"
        "    return sorted(heads - set(sys.stdlib_module_names) - {'heavylift', 'work', '__mp_main__'})"
    )

    foreign = pod.run().envelope["result"]

    assert [name for name in foreign if not name.startswith(("_", "sitecustomize"))] == []


def test_help_shows_an_example(pod: Pod) -> None:
    """--help has an example and the exit codes."""
    ran = pod.finish(pod.start("--help"))

    assert ran.code == 0
    assert "command: [heavylift, run, myapp.tasks]" in ran.stdout
    assert "143" in ran.stdout


def test_stock_workers_function_refuses() -> None:
    """RQ's own worker that takes one of our jobs gets an error that says what to do."""
    from heavylift.contract.names import OUTSIDE_POD_FUNC  # noqa: PLC0415 - as a worker would: by the stored path
    from heavylift.errors import ConfigurationError  # noqa: PLC0415

    module, _, name = OUTSIDE_POD_FUNC.rpartition(".")
    function: Callable[..., object] = getattr(__import__(module, fromlist=[name]), name)

    with pytest.raises(ConfigurationError, match="runs only in its Kubernetes Job"):
        function("annual", {"year": 2026})


def test_result_file_is_one_write_of_a_regular_file(pod: Pod, tmp_path: Path) -> None:
    """The result replaces what was in the file and keeps the file itself: it is a bind mount in a pod."""
    pod.module(ADD)
    pod.result.write_text("x" * 5000, encoding="utf-8")
    inode = (tmp_path / "termination-log").stat().st_ino

    ran = pod.run(data={"a": 1})

    assert ran.envelope["result"] == 2
    assert pod.result.stat().st_ino == inode


def test_task_can_be_handed_to_a_process_pool(pod: Pod) -> None:
    """A task pickles by name, as any function does."""
    pod.module(
        "from concurrent.futures import ProcessPoolExecutor\n@heavylift.task\ndef square(n: int) -> int:\n"
        "    return n * n\n@heavylift.task\ndef main() -> list[int]:\n"
        "    with ProcessPoolExecutor(2) as pool:\n        return list(pool.map(square, [1, 2, 3]))"
    )

    assert pod.run().envelope["result"] == [1, 4, 9]
