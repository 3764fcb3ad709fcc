"""A process' connection to the store: made when it can be, one log line per change of state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from heavylift.errors import ConfigurationError, HeavyliftError, RedisUnavailableError
from heavylift.runtime.service import StateLine
from heavylift.runtime.settings import ProcessSettings
from heavylift.store import AsyncStore
from heavylift.store.steps import Op

T = TypeVar("T")


@dataclass(slots=True)
class RedisLink:
    """Runs operations; trouble is said once and raised as RedisUnavailableError."""

    settings: ProcessSettings
    line: StateLine
    _store: AsyncStore | None = None

    async def run(self, op: Op[T]) -> T:
        """Run one operation of ``heavylift.store.ops``.

        Raises:
            RedisUnavailableError: Redis did not do it within the patience; it may be asked for again.
            StoreCorruptError: a key has the wrong type.
        """
        try:
            result = await self.store().run(op)
        except (RedisUnavailableError, ConfigurationError) as error:
            raise self.failed(error) from error
        self.line.good("answers again")
        return result

    async def run_many(self, operations: Sequence[Op[T]]) -> list[T | HeavyliftError]:
        """Run operations side by side in common pipelines; each gives its value or its own error.

        Raises:
            RedisUnavailableError: Redis did not do them within the patience; they may be asked for again.
        """
        try:
            results = await self.store().run_many(operations)
        except (RedisUnavailableError, ConfigurationError) as error:
            raise self.failed(error) from error
        self.line.good("answers again")
        return results

    def store(self) -> AsyncStore:
        """Return the store, made when first needed; the password file is read again for each new connection.

        Raises:
            ConfigurationError: the password file is missing or empty.
        """
        if self._store is None:
            wanted = self.settings
            wanted.password()  # says more about a missing file than the store can
            self._store = AsyncStore.connect(
                wanted.redis_url,
                username=wanted.redis_username,
                password_file=str(wanted.redis_password_file) if wanted.redis_password_file else None,
                patience=wanted.redis_patience,
            )
        return self._store

    def failed(self, error: Exception) -> RedisUnavailableError:
        """Note trouble and return the error to raise."""
        self.line.bad(str(error))
        return error if isinstance(error, RedisUnavailableError) else RedisUnavailableError(str(error))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._store is not None:
            await self._store.aclose()
            self._store = None
