"""Settings from the environment: forms, bounds, one line for all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import ConfigurationError
from heavylift.store.connection import read_password
from heavylift_worker import __main__ as process
from heavylift_worker.settings import DispatcherSettings, help_text

NEEDED = {"REDIS_URL": "redis://r:6379/0", "INSTALL_ID": "heavylift/main", "NAMESPACES": "analytics, reports"}


def _load(monkeypatch: pytest.MonkeyPatch, **values: str) -> DispatcherSettings:
    for name, value in {**NEEDED, **values}.items():
        monkeypatch.setenv(f"HEAVYLIFT_{name}", value)
    return DispatcherSettings.load()


def test_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durations are Go-style or plain seconds, lists are comma separated, names are made where none is given."""
    settings = _load(monkeypatch, CLAIM_DEADLINE="2s", CREATE_PATIENCE="1.5", POLL="250ms")

    assert settings.namespaces == ("analytics", "reports")
    assert (settings.claim_deadline, settings.create_patience, settings.poll) == (2.0, 1.5, 0.25)
    assert settings.slots == 10
    assert settings.worker_name != _load(monkeypatch).worker_name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"REDIS_URL": "localhost"}, "HEAVYLIFT_REDIS_URL is no Redis URL"),
        ({"REDIS_URL": ""}, "HEAVYLIFT_REDIS_URL is not set"),
        ({"NAMESPACES": "Analytics"}, "HEAVYLIFT_NAMESPACES 'Analytics' is no namespace name"),
        ({"NAMESPACES": " , "}, "HEAVYLIFT_NAMESPACES names no namespace"),
        ({"CLAIM_DEADLINE": "ten"}, "HEAVYLIFT_CLAIM_DEADLINE 'ten' is not a duration"),
        ({"SLOTS": "0"}, "HEAVYLIFT_SLOTS='0'"),
        ({"CREATE_PATIENCE": "60s"}, "HEAVYLIFT_CREATE_PATIENCE is not below HEAVYLIFT_CLAIM_DEADLINE"),
        ({"HTTP_PORT": "99999"}, "HEAVYLIFT_HTTP_PORT"),
        ({"INSTALL_ID": "a b"}, "HEAVYLIFT_INSTALL_ID"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str) -> None:
    """What is wrong is said in one line with the variable's name."""
    with pytest.raises(ConfigurationError) as caught:
        _load(monkeypatch, **values)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_password_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The password is read anew each time; a missing or empty file says what to do; only line breaks are cut off."""
    file = tmp_path / "password"
    settings = _load(monkeypatch, REDIS_PASSWORD_FILE=str(file))

    with pytest.raises(ConfigurationError, match="cannot be read"):
        settings.password()
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        settings.password()
    file.write_text("s3cret \r\n")
    assert settings.password() == "s3cret " == read_password(str(file))
    assert _load(monkeypatch, REDIS_PASSWORD_FILE="").password() is None


def test_help_lists_every_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` names each variable with its default and meaning and shows an example, without any environment."""
    monkeypatch.setattr("sys.argv", ["heavylift-dispatcher", "--help"])

    assert process.main() == 0

    text = capsys.readouterr().out
    assert text.strip() == help_text()
    for name, info in DispatcherSettings.model_fields.items():
        assert f"HEAVYLIFT_{name.upper()}" in text
        assert info.description
        assert info.description in text
    assert "Example:" in text
