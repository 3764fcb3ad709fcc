"""Tasks as producers use them: the decorated function enqueues its own calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, assert_type

import pytest

import heavylift
from heavylift import AsyncClient, Backoff, Client, ConfigurationError, InvalidInputError, Job, Timeouts, tasks
from heavylift.client import default_client
from heavylift.contract.payload import decode

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch, redis_server: StoreServer) -> Iterator[None]:
    """Each test registers its own tasks and has its own default client."""
    monkeypatch.setattr(tasks, "_registry", {})
    monkeypatch.setenv("HEAVYLIFT_REDIS_URL", redis_server.url)
    default_client.cache_clear()
    yield
    if default_client.cache_info().currsize:
        default_client().close()
    default_client.cache_clear()


def test_call_is_enqueued_by_name(served: Player) -> None:
    """Positional and keyword arguments become data by name, defaults are left to the pod."""

    @heavylift.task(queue="reports")
    def annual(ctx: heavylift.Context, year: int, *, region: str = "all") -> dict[str, int]:
        return {ctx.job_id + region: year}

    job = assert_type(annual.enqueue(2026), Job[dict[str, int]])
    annual.enqueue(2027, region="north")
    first, second = served.claim(), served.claim()

    assert first is not None
    assert second is not None
    assert (first.job, decode(first.data).task, decode(first.data).data_json) == (job.id, "annual", '{"year":2026}')
    assert decode(second.data).data_json == '{"year":2027,"region":"north"}'


def test_what_names_cannot_carry_goes_as_args_and_kwargs(served: Player) -> None:
    """Variadic functions get RQ's own shape."""

    @heavylift.task(queue="reports")
    def total(*numbers: int, **labels: str) -> int:
        return sum(numbers) + len(labels)

    total.enqueue(1, 2, unit="kg")
    claim = served.claim()

    assert claim is not None
    assert decode(claim.data).data_json == '{"args":[1,2],"kwargs":{"unit":"kg"}}'
    assert total(1, 2, unit="kg") == 4


def test_options_of_enqueue_are_stronger_than_the_tasks(served: Player, client: Client) -> None:
    """@task's settings apply to its enqueues; options override them one by one."""

    @heavylift.task(queue="reports", max_attempts=5, backoff=Backoff.fixed("3s"), timeouts=Timeouts(run="1h"))
    def annual(year: int) -> int:
        return year

    annual.options(max_attempts=2, client=client).enqueue(2026)
    claim = served.claim()

    assert claim is not None
    assert claim.options == {
        "maxAttempts": 2,
        "backoff": {"type": "Fixed", "delay": 3000, "jitterPercent": 0},
        "timeouts": {"run": 3_600_000},
    }


def test_arguments_are_checked_where_they_are_passed(served: Player) -> None:
    """A call the function cannot take never becomes a job."""

    @heavylift.task(queue="reports")
    def annual(year: int) -> int:
        return year

    with pytest.raises(InvalidInputError, match="missing a required argument: 'year'"):
        annual.enqueue()  # type: ignore[call-arg]  # bad on purpose

    assert served.claim() is None


def test_task_without_a_queue_says_so() -> None:
    """A task that names no queue asks for one."""

    @heavylift.task
    def annual(year: int) -> int:
        return year

    with pytest.raises(ConfigurationError, match="has no queue"):
        annual.enqueue(2026)
    assert annual(2026) == 2026


def test_plain_call_gives_a_local_context() -> None:
    """Called directly, a task that wants a context gets a local one, or the one it is given."""

    @heavylift.task
    def annual(ctx: heavylift.Context, year: int) -> tuple[str, int]:
        return ctx.job_id, year

    assert annual(2026) == ("local", 2026)
    assert annual(heavylift.Context(job_id="j"), 2026) == ("j", 2026)  # type: ignore[call-arg, arg-type]  # for tests


async def test_enqueue_async(served: Player, redis_server: StoreServer) -> None:
    """The awaited enqueue works with a client of its own and with a given one."""

    @heavylift.task(queue="reports")
    def annual(year: int) -> int:
        return year

    await annual.enqueue_async(2026)
    async with AsyncClient(redis_server.url) as client:
        job = await annual.options(client=client, id="given").enqueue_async(2027)
        with pytest.raises(ConfigurationError, match="use enqueue_async"):
            annual.options(client=client).enqueue(1)

    first, second = served.claim(), served.claim()
    assert first is not None
    assert second is not None
    assert (second.job, job.id) == ("given", "given")
    assert [decode(claim.data).data_json for claim in (first, second)] == ['{"year":2026}', '{"year":2027}']


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"retry_on": OSError}, "retry_on is a tuple"),
        ({"no_retry_on": ("ValueError",)}, "no_retry_on is a tuple"),
        ({"backoff": "2s"}, "backoff is a Backoff"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"retries": 3}, "does not know retries"),
    ],
)
def test_bad_settings_of_a_task_are_found_at_import(settings: dict[str, object], want: str) -> None:
    """A wrong decorator fails where it stands."""
    with pytest.raises(heavylift.HeavyliftError, match=want):
        heavylift.task(**settings)  # type: ignore[call-overload]  # bad on purpose
