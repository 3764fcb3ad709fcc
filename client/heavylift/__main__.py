"""The ``heavylift`` command: ``run`` loads the standard library only, everything else is the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] == ["run"]:
        from heavylift.pod.command import main as run  # noqa: PLC0415 - a pod must not load the command line

        sys.exit(run(sys.argv[2:]))
    from heavylift.cli.app import main as command_line  # noqa: PLC0415 - as above

    sys.exit(command_line())


if __name__ == "__main__":
    main()
