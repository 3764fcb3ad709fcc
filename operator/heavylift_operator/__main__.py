"""``python -m heavylift_operator``: the operator process."""

from __future__ import annotations

import asyncio
import sys

from heavylift.contract import failpoints
from heavylift.errors import ConfigurationError
from heavylift.runtime import logs
from heavylift.runtime.service import collect_less
from heavylift_operator.app import Operator
from heavylift_operator.settings import OperatorSettings, help_text

USAGE = 2


def main() -> int:
    """Run the operator; return its exit code: 0 ended as asked, 1 its watches died, 2 these settings cannot work."""
    arguments = sys.argv[1:]
    if arguments:
        print(help_text())  # noqa: T201 - what --help is for
        return 0 if arguments in (["--help"], ["-h"]) else USAGE
    logs.configure("operator")
    try:
        settings = OperatorSettings.load()
        logs.configure("operator", settings.log_level)
        failpoints.load()
        collect_less()
        return asyncio.run(Operator(settings).run())
    except ConfigurationError as error:
        logs.get("operator").error("cannot start", why=str(error))
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
