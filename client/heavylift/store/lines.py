"""Connections that calls are sent ahead over: what redis-py makes again by itself must not mix up their answers."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from redis import ConnectionError as ConnectionLostError


class Line:
    """Over which connection, since it was made, Redis answered which scripts.

    redis-py makes a lost connection again inside of the next command that is sent: the answers that were owed are gone,
    and the next to be read belongs to a later call. A new connection may also be one to a Redis that was restarted and
    forgot its scripts: the first call is awaited there, so that it is not refused while the one behind it is taken.
    """

    def __init__(self, connection: Any) -> None:
        self._answered: set[str] = set()
        connection.register_connect_callback(self._made_again)

    def _made_again(self, _: Any) -> None:
        self._answered.clear()

    def knows(self, script: str) -> bool:
        """Whether Redis answered this script over the connection since it was made."""
        return script in self._answered

    def answered(self, script: str) -> None:
        """Note an answer."""
        self._answered.add(script)

    def check(self, owed: str) -> None:
        """Check, once a command was sent, that the connection is the one over which a call of this script went before.

        Raises:
            redis.ConnectionError: it was made again in between.
        """
        if owed not in self._answered:
            raise ConnectionLostError("the connection was made again while an answer was owed")


class Lines:
    """The lines of a store's connections; they live as long as these."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, Line] = WeakKeyDictionary()

    def of(self, connection: Any) -> Line:
        """Return what is known about a connection."""
        line = self._known.get(connection)
        if line is None:
            line = self._known[connection] = Line(connection)
        return line
