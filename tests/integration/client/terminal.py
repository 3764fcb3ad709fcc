"""The command on a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def on_a_terminal(url: str, *arguments: str, given: str = "") -> str:
    """Run the command on a terminal of 80 columns and return what it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR"}}
    env |= {"HEAVYLIFT_REDIS_URL": url, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "heavylift", *arguments]
    with subprocess.Popen(command, env=env, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        if given:
            os.write(ours, given.encode())
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed: Linux's way to say that all was read
            while part := os.read(ours, 65_536):
                said += part
        assert process.wait(timeout=60) == 0, said
    os.close(ours)
    return said.decode()
