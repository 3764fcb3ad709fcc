"""Parts of the command line that need no Redis: help, render, versions, missing extras."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from heavylift import errors
from heavylift.cli.app import main
from heavylift.cli.exits import Exit, exit_code
from heavylift.cli.versions import judge_version

COMMANDS = [
    ["enqueue"],
    ["render"],
    ["doctor"],
    ["completion"],
    *(
        ["jobs", verb]
        for verb in ("list", "show", "wait", "cancel", "retry", "promote", "change", "remove", "logs", "why")
    ),
    *(["queues", verb] for verb in ("list", "show", "pause", "resume", "purge")),
    *(["schedules", verb] for verb in ("list", "show", "suspend", "resume", "trigger", "delete")),
    ["autoscale", "simulate"],
]
QUEUE = {
    "apiVersion": "heavylift.dev/v1alpha1",
    "kind": "HeavyQueue",
    "metadata": {"name": "reports", "namespace": "analytics"},
    "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example"}]}}}}},
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help shows how it is typed."""
    assert main([*command, "--help"]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "Example: heavylift" in said
    assert f"heavylift {' '.join(command)}" in said


@pytest.mark.parametrize("command", [[], ["jobs"], ["run"], *COMMANDS], ids=" ".join)
def test_help_fits_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to widen a terminal to read a help; the pod's own command, which is argparse's, ends by itself."""
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        assert main([*command, "--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert len(lines) > 5


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts find the exit codes in the help."""
    assert main(["--help"]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "124 wait timed out" in said
    for command in ("enqueue", "jobs", "queues", "render", "doctor", "run"):
        assert command in said


def test_every_error_has_an_exit_code() -> None:
    """No error of ours is taken for a bug."""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.HeavyliftError) and value is not errors.BatchError:
            assert exit_code(value("message")) is not Exit.BUG, name
    assert exit_code(KeyError("x")) is Exit.BUG


def test_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A bug of ours shows its type and how to see more, no traceback."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("heavylift.cli.render._documents", broken)

    assert main(["render", "reports", "--file", "x"]) == 70
    said = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: boom (HEAVYLIFT_TRACEBACK=1 shows where)" in said
    assert said.count("\n") == 1


def test_render_prints_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Job is printed as it would be created, the payload escaped for Kubernetes."""
    path = tmp_path / "queue.yaml"
    path.write_text("---\nkind: Namespace\n---\n" + yaml.safe_dump(QUEUE))
    arguments = ["render", "reports", "--file", str(path), "--task", "annual", "--data", '{"price": "$5"}']

    assert main(arguments) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    assert main([*arguments, "-o", "json"]) == 0
    as_json = json.loads(capsys.readouterr().out)

    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", "analytics")
    env = {entry["name"]: entry["value"] for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["HEAVYLIFT_JOB_PAYLOAD"] == '{"price":"$$5"}'
    assert as_json == job


@pytest.mark.parametrize(
    ("text", "queue", "data", "want"),
    [
        ("a: [", "reports", "{}", "is not YAML"),
        ("{}", "reports", "{}", "no HeavyQueue for queue 'reports' in that file; there is: none"),
        (yaml.safe_dump(QUEUE), "other", "{}", "there is: reports"),
        (yaml.safe_dump({**QUEUE, "spec": {}}), "reports", "{}", "jobTemplate"),
        (yaml.safe_dump({**QUEUE, "metadata": None}), "reports", "{}", "no metadata"),
        (yaml.safe_dump(QUEUE), "reports", "[]", "data is a list"),
        (yaml.safe_dump(QUEUE), "reports", json.dumps({"x": "y" * 70_000}), "larger than spec.payload.maxSize"),
    ],
)
def test_render_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, queue: str, data: str, want: str
) -> None:
    """Whatever is wrong with file or data is said in one line, exit code 2."""
    path = tmp_path / "queue.yaml"
    path.write_text(text)

    assert main(["render", queue, "--file", str(path), "--data", data]) == 2
    said = capsys.readouterr().err
    assert want in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("server", "version", "want"),
    [
        ("redis", "7.0.15", "CVE-2025-49844 is open"),
        ("redis", "7.2.11", "CVE-2026-23479 is open"),
        ("redis", "7.4.5", "CVE-2025-49844 and CVE-2026-23479 are open"),
        ("redis", "8.6.3", ""),
        ("redis", "9.0.0", ""),
        ("redis", "6.2.20", "older than 7.0"),
        ("valkey", "8.1.3", "CVE-2025-49844 is open"),
        ("valkey", "8.1.4", ""),
        ("valkey", "9.1.0", ""),
        ("redis", "unknown", "not known here"),
        ("dragonfly", "1.2.3", "not known here"),
    ],
)
def test_versions_with_known_holes(server: str, version: str, want: str) -> None:
    """Known holes are named; versions without are not complained about."""
    said = judge_version(server, version)

    assert want in said
    assert bool(said) is bool(want)


@pytest.mark.parametrize("arguments", [["--kube", "heavylift", "queues", "list"]])
def test_without_the_kubernetes_client_it_says_what_to_install(arguments: list[str]) -> None:
    """Without the extra, --kube names it; nothing else needs it."""
    program = (
        "import sys; sys.modules['kubernetes'] = None; from heavylift.cli.app import main; "
        f"sys.exit(main({arguments!r}))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert "pip install 'heavylift[kube]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_run_through_global_options(capsys: pytest.CaptureFixture[str]) -> None:
    """``heavylift run`` is found behind global options too."""
    with pytest.raises(SystemExit) as ended:
        main(["--redis", "redis://x/0", "run", "--help"])

    assert ended.value.code == 0
    assert "usage: heavylift run" in capsys.readouterr().out
