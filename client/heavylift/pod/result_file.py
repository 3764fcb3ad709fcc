"""The file whose content the kubelet takes for the container's termination message, however the container ends."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class ResultFile:
    """Written over in place: it is mounted into the container, so nothing can be renamed onto it."""

    path: Path

    def write(self, text: str) -> None:
        """Write the last word.

        Raises:
            OSError: the file cannot be written.
        """
        if not self._replace(text):
            with self.path.open("w", encoding="utf-8") as file:
                file.write(text)

    def keep(self, text: str) -> None:
        """Write what shall stand there should the process be killed now; nothing on a pipe or terminal.

        Raises:
            OSError: the file cannot be written.
        """
        self._replace(text)

    def _replace(self, text: str) -> bool:
        """Put ``text`` in the place of what is there by one call, so that a kill finds the old or the new.

        What is longer is covered with line breaks, which JSON allows at its end, before it is cut off.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return False
            content = text.encode()
            padded = content + b"\n" * max(before.st_size - len(content), 0)
            written = os.pwrite(descriptor, padded, 0)
            if written != len(padded):
                raise OSError(0, "the disk is full", str(self.path))
            os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)
        return True
