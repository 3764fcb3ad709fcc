"""Delegated rights: who is asked about whom, how long an answer counts, and what silence means."""

from __future__ import annotations

from typing import Any, cast

import pytest

from heavylift.errors import ClusterUnavailableError
from heavylift.runtime.kube import KubeApi, KubeReply
from heavylift_operator.metrics_api.access import Access, Recent
from heavylift_operator.metrics_api.identity import Asked, User
from heavylift_operator.metrics_api.status import StatusError

METRIC = Asked("list", "/x", "ns", "heavylift_queue_demand")
JANE = User("jane", groups=("system:authenticated",))


class Api:
    """An API server that answers reviews from a list."""

    def __init__(self, *answers: KubeReply | Exception) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    async def request(self, method: str, path: str, *, body: dict[str, Any], timeout: float) -> KubeReply:  # noqa: ASYNC109
        """Answer the next."""
        assert (method, timeout) == ("POST", 5.0)
        self.asked.append({"path": path, **body["spec"]})
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def made(*answers: KubeReply | Exception) -> tuple[Access, Api, list[float]]:
    """Return an access with its API server and its clock."""
    api, now = Api(*answers), [0.0]
    return Access(cast("KubeApi", api), lambda: now[0]), api, now


def review(**status: Any) -> KubeReply:
    """Return a review's answer."""
    return KubeReply(201, {"status": status})


async def test_an_answer_counts_for_ten_seconds_yes_or_no() -> None:
    """One review for each question, and another once it is ten seconds old."""
    access, api, now = made(review(allowed=True), review(allowed=False, reason="no rule"), review(allowed=False))
    for at in (0.0, 5.0, 9.9):
        now[0] = at
        await access.check(JANE, METRIC)
    assert len(api.asked) == 1
    now[0] = 10.0
    for at in (10.0, 19.0):
        now[0] = at
        with pytest.raises(StatusError, match=r"user jane cannot list heavylift_queue_demand.*no rule") as caught:
            await access.check(JANE, METRIC)
        assert caught.value.code == 403
    assert len(api.asked) == 2
    now[0] = 20.0
    with pytest.raises(StatusError):
        await access.check(JANE, METRIC)
    assert len(api.asked) == 3


async def test_each_user_group_and_question_has_its_own_answer() -> None:
    """An allowance of one group, namespace or metric is none for another."""
    access, api, _ = made(*(review(allowed=True) for _ in range(4)))
    await access.check(JANE, METRIC)
    await access.check(User("jane", groups=("dev",)), METRIC)
    await access.check(JANE, Asked("list", "/x", "other", "heavylift_queue_demand"))
    await access.check(JANE, Asked("get", "/apis"))
    assert len(api.asked) == 4
    assert api.asked[0]["resourceAttributes"]["namespace"] == "ns"
    assert api.asked[3]["nonResourceAttributes"] == {"path": "/apis", "verb": "get"}


async def test_masters_are_always_allowed() -> None:
    """The aggregator's own checks come as system:masters, also while reviews fail."""
    access, api, _ = made()
    await access.check(User("system:kube-aggregator", groups=("system:masters",)), METRIC)
    assert api.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        ClusterUnavailableError("no answer"),
        KubeReply(403, {"message": "forbidden"}),
        KubeReply(500, "boom"),
    ],
)
async def test_without_an_answer_nobody_is_allowed_and_nothing_is_remembered(answer: Any) -> None:
    """503 says that rights cannot be checked; the next request asks again."""
    access, _, _ = made(answer, review(allowed=True), answer, review(authenticated=True, user={"username": "sa"}))
    with pytest.raises(StatusError, match="rights cannot be checked") as caught:
        await access.check(JANE, METRIC)
    assert caught.value.code == 503
    await access.check(JANE, METRIC)
    with pytest.raises(StatusError, match="rights cannot be checked"):
        await access.user_of("token")
    assert (await access.user_of("token")) == User("sa", groups=("system:authenticated",))


@pytest.mark.parametrize("status", [{}, {"allowed": "yes"}, {"allowed": True, "denied": True}, {"allowed": None}])
async def test_only_a_plain_yes_is_a_yes(status: dict[str, Any]) -> None:
    """Anything else denies."""
    access, _, _ = made(review(**status))
    with pytest.raises(StatusError) as caught:
        await access.check(JANE, METRIC)
    assert caught.value.code == 403


async def test_tokens_are_reviewed_once_and_a_bad_one_is_nobodys() -> None:
    """A refused token costs one review in ten seconds; an empty or endless one none."""
    access, api, _ = made(review(authenticated=False))
    for _ in range(3):
        assert await access.user_of("bad") is None
    assert await access.user_of("") is None
    assert await access.user_of("x" * 20_000) is None
    assert [one["token"] for one in api.asked] == ["bad"]


def test_a_flood_of_questions_does_not_fill_the_memory() -> None:
    """The oldest answer goes when there are too many."""
    recent = Recent[int, int](lambda: 0.0, most=3)
    for number in range(5):
        recent.put(number, number)
    assert [recent.get(number) for number in range(5)] == [None, None, (2,), (3,), (4,)]
