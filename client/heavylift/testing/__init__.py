"""Heavylift without Redis and Kubernetes, for your unit tests.

```python
client = heavylift.testing.Client()
job = client.queue("reports").enqueue("annual", {"year": 2026}, max_attempts=3)
client.fail_next("oom")
client.run_all()                       # runs the registered task here; the second attempt succeeds
assert job.info().state == "completed"
```
"""

from __future__ import annotations

from heavylift.testing.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
