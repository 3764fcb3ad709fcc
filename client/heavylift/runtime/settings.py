"""Settings every process of ours shares, from ``HEAVYLIFT_*`` variables, and their ``--help``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from heavylift.contract import durations
from heavylift.errors import ConfigurationError

PREFIX: Final = "HEAVYLIFT_"
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_URL_SCHEMES: Final = {"redis", "rediss", "unix"}


def _seconds(value: Any) -> Any:
    return durations.to_ms(value if not str(value).replace(".", "", 1).isdigit() else float(value)) / 1000


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _namespaces(found: tuple[str, ...]) -> tuple[str, ...]:
    if not found:
        raise ValueError("names no namespace: list those with HeavyQueues, comma separated")
    for name in found:
        if not _NAMESPACE.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is no namespace name: use lower-case letters, digits and '-'")
    return tuple(dict.fromkeys(found))


def _redis_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _URL_SCHEMES or not (parts.netloc or parts.path):
        raise ValueError(
            "is no Redis URL: write it like redis://redis.example.com:6379/0, rediss://... or unix:///path"
        )
    return url


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""Written as ``90s``, ``1m``, ``250ms`` or plain seconds; held as seconds."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
"""Written comma separated."""


class ProcessSettings(BaseSettings):
    """What the dispatcher and the operator both need; each field is the variable ``HEAVYLIFT_<NAME>``."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True, env_ignore_empty=True
    )

    redis_url: Annotated[str, AfterValidator(_redis_url)]
    """Where Redis is, e.g. redis://redis:6379/0; rediss:// for TLS, unix:///path for a socket."""
    redis_username: str | None = None
    """Redis ACL user; absent = the default user, or the one in the URL."""
    redis_password_file: Path | None = None
    """File with the Redis password, read again for each new connection."""
    redis_patience: Seconds = 5.0
    """How long one operation on Redis is tried before it counts as failed."""
    install_id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
    """Names this installation in Jobs and claims, e.g. heavylift/main; keep it over reinstalls."""
    namespaces: Annotated[Names, AfterValidator(_namespaces)]
    """Namespaces whose HeavyQueues are served, comma separated, e.g. analytics,reports."""
    kubeconfig: str | None = None
    """A kubeconfig file; absent = the pod's service account."""
    log_level: str = "info"
    """debug | info | warning | error."""
    http_host: str = "0.0.0.0"  # noqa: S104 - probes and metrics are for the cluster
    """Address of /livez, /readyz and /metrics."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /livez, /readyz and /metrics; 0 = a free one."""

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            ConfigurationError: one line that names each wrong or missing variable and what to write.
        """
        try:
            return cls()
        except ValidationError as error:
            raise ConfigurationError("; ".join(_problem(entry) for entry in error.errors(include_url=False))) from None

    def password(self) -> str | None:
        """Return the Redis password from its file; None = no file is named, the URL's own counts.

        Only line breaks at its end are no part of it, as in ``heavylift.store``.

        Raises:
            ConfigurationError: the file is missing, unreadable or empty.
        """
        if self.redis_password_file is None:
            return None
        try:
            password = self.redis_password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ConfigurationError(
                f"the password file {self.redis_password_file} cannot be read ({reason}): "
                f"mount the Secret there, or unset {PREFIX}REDIS_PASSWORD_FILE"
            ) from None
        if not password:
            raise ConfigurationError(
                f"the password file {self.redis_password_file} is empty: write the Redis password into the Secret, "
                f"or unset {PREFIX}REDIS_PASSWORD_FILE"
            )
        return password


S = TypeVar("S", bound=ProcessSettings)


def _problem(entry: Any) -> str:
    if not entry["loc"]:
        return str(entry["ctx"]["error"])
    name = PREFIX + str(entry["loc"][0]).upper()
    if entry["type"] == "missing":
        return f"{name} is not set: see --help"
    cause = entry.get("ctx", {}).get("error")
    return f"{name} {cause}" if cause is not None else f"{name}={str(entry['input'])[:80]!r}: {entry['msg']}"


def describe(settings: type[ProcessSettings], *, program: str, purpose: str, example: dict[str, str]) -> str:
    """Return the ``--help`` of a process: every variable with its default and meaning, and an example."""
    lines = [f"usage: {program} [--help]", "", purpose, "", "Settings (environment variables):"]
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else f"default {_shown(field.default)}"
        lines += [f"  {PREFIX}{name.upper()}  ({default})", f"      {field.description}"]
    lines += ["", "Example:", *(f"  {key}={value} \\" for key, value in example.items()), f"  {program}"]
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)
