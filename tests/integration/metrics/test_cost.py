"""What a scrape costs Redis."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from heavylift.store import Store, ops
from tests.servers import redis_binary, running


@pytest.mark.parametrize(("queues", "scripts"), [(1, 1), (25, 1), (26, 2)])
def test_a_scrape_is_one_script_for_twenty_five_queues(queues: int, scripts: int, tmp_path: Path) -> None:
    """One look has the figures of all of them; each further twenty-five are another one."""
    with (
        running(redis_binary(), tmp_path) as server,
        Store.connect(server.url) as store,
        contextlib.closing(server.client()) as client,
    ):
        names = [f"q-{n}" for n in range(queues)]
        store.run(ops.gauges("ns/rel", names))  # loads the script
        client.config_resetstat()
        assert set(store.run(ops.gauges("ns/rel", names)).queues) == set(names)
        found = {name: one["calls"] for name, one in client.info("commandstats").items() if "eval" in name}
    assert found == {"cmdstat_evalsha": scripts}
