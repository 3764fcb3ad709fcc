"""Where Redis is and how its clients are made, the same for both runners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from typing_extensions import override

from heavylift.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One Redis; ``password_file`` is read again at every new connection, so that a rotated password is taken up."""

    url: str
    timeout: float = 5.0
    """Seconds for connecting and for one answer."""
    username: str | None = None
    password: str | None = None
    password_file: str | None = None

    @property
    def where(self) -> str:
        """The place without credentials, for messages."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname}:{parts.port or 6379}{parts.path or '/0'}"

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``from_url`` that both clients share.

        Raises:
            ConfigurationError: not a usable URL, or the password file cannot be read or is empty.
        """
        check_url(self.url)
        options: dict[str, Any] = {
            "socket_timeout": self.timeout,
            "socket_connect_timeout": self.timeout,
            "retry_on_timeout": False,
            "protocol": 2,
            "decode_responses": False,
        }
        if urlsplit(self.url).scheme != "unix":
            options["socket_keepalive"] = True
        if self.password_file:
            read_password(self.password_file)
            options["credential_provider"] = FileCredentials(self.username, self.password_file)
        else:
            options.update({"username": self.username} if self.username else {})
            options.update({"password": self.password} if self.password else {})
        return options


def check_url(url: str) -> None:
    """Refuse what is not a Redis URL.

    Raises:
        ConfigurationError: it is not; the message shows the form and never the password.
    """
    form = "write redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"the Redis URL cannot be read ({error}): {form}") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ConfigurationError(f"the Redis URL has the scheme {parts.scheme[:20]!r}: {form}")
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdigit():
        raise ConfigurationError(f"the Redis URL has the database {database[:20]!r}, not a number: {form}")


def read_password(path: str) -> str:
    """Return a password file's text without the line break at its end.

    Raises:
        ConfigurationError: it cannot be read, or is empty.
    """
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"the Redis password file {path} cannot be read: {reason}") from None
    if not text:
        raise ConfigurationError(f"the Redis password file {path} is empty: write the password into it")
    return text


class FileCredentials(redis.CredentialProvider):
    """Credentials whose password is read from a file at every new connection."""

    def __init__(self, username: str | None, path: str) -> None:
        self._username = username
        self._path = path

    @override
    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the password, with the user in front where there is one."""
        password = read_password(self._path)
        return (self._username, password) if self._username else (password,)

    @override
    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same for redis-py's async connections; one small file is read in the loop."""
        return self.get_credentials()


def no_backoff() -> NoBackoff:
    """Return redis-py's own backoff, of which no retry ever makes use: retries are ours, per operation."""
    return NoBackoff()
