"""``python -m heavylift_worker``: the dispatcher process."""

from __future__ import annotations

import asyncio
import sys

from heavylift.contract import failpoints
from heavylift.errors import ConfigurationError
from heavylift.runtime import logs
from heavylift.runtime.service import collect_less
from heavylift_worker.app import Dispatcher
from heavylift_worker.settings import DispatcherSettings, help_text

USAGE = 2


def main() -> int:
    """Run the dispatcher; return its exit code: 0 ended as asked, 2 cannot work with these settings."""
    arguments = sys.argv[1:]
    if arguments:
        print(help_text())  # noqa: T201 - what --help is for
        return 0 if arguments in (["--help"], ["-h"]) else USAGE
    logs.configure("dispatcher")
    try:
        settings = DispatcherSettings.load()
        logs.configure("dispatcher", settings.log_level)
        failpoints.load()
        collect_less()
        return asyncio.run(Dispatcher(settings).run())
    except ConfigurationError as error:
        logs.get("dispatcher").error("cannot start", why=str(error))
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
