"""The answer table: words of real API servers -> what is done about them."""

from __future__ import annotations

import pytest

from heavylift.runtime.kube import KubeReply
from heavylift_worker import answers
from heavylift_worker.answers import Kind
from tests.unit.worker.fakes import created, job, status

TERMINATING = {"causes": [{"reason": "NamespaceTerminating", "message": "namespace x is being terminated"}]}
CREATES = [
    ("created", created(), Kind.CREATED),
    ("a success that is no Job", KubeReply(200, "<html>login</html>"), Kind.BUSY),
    ("exists", status(409, 'jobs.batch "x" already exists', "AlreadyExists"), Kind.LOOK),
    ("quota conflict", status(409, "Operation cannot be fulfilled on resourcequotas", "Conflict"), Kind.BUSY),
    (
        "quota",
        status(403, 'jobs.batch "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1', "Forbidden"),
        Kind.QUOTA,
    ),
    (
        "quota without usage",
        status(403, 'jobs.batch "x" is forbidden: failed quota: q: must specify limits.memory', "Forbidden"),
        Kind.QUOTA,
    ),
    (
        "terminating, by cause",
        status(403, "unable to create new content in namespace x", "Forbidden", **TERMINATING),
        Kind.NAMESPACE,
    ),
    (
        "terminating, by words",
        status(403, "unable to create new content in namespace x because it is being terminated", "Forbidden"),
        Kind.NAMESPACE,
    ),
    (
        "RBAC",
        status(
            403, 'jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot create resource "jobs"', "Forbidden"
        ),
        Kind.FORBIDDEN,
    ),
    (
        "webhook denial",
        status(403, 'admission webhook "policy.example.com" denied the request: no root', "Forbidden"),
        Kind.REJECTED,
    ),
    (
        "webhook denial that quotes RBAC's words",
        status(403, 'admission webhook "w" denied the request: cannot create resource "jobs"', "Forbidden"),
        Kind.REJECTED,
    ),
    ("webhook denial as 400", status(400, 'admission webhook "w" denied the request', "BadRequest"), Kind.REJECTED),
    (
        "admission policy",
        status(422, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "Invalid"),
        Kind.REJECTED,
    ),
    ("another admission plugin", status(403, "jobs.batch is forbidden: not on Sundays", "Forbidden"), Kind.REJECTED),
    ("not valid", status(422, 'Job.batch "x" is invalid: spec.template: Required value', "Invalid"), Kind.INVALID),
    ("unknown field", status(400, 'strict decoding error: unknown field "spec.x"', "BadRequest"), Kind.INVALID),
    ("too large", status(413, "etcdserver: request is too large", "RequestEntityTooLarge"), Kind.INVALID),
    ("namespace missing", status(404, 'namespaces "x" not found', "NotFound"), Kind.NAMESPACE),
    ("too many requests", status(429, "slow down", "TooManyRequests", retry_after=3), Kind.BUSY),
    ("token expired", status(401, "Unauthorized", "Unauthorized"), Kind.BUSY),
    ("internal error", status(500, "etcdserver: leader changed", "InternalError"), Kind.BUSY),
    ("webhook down", status(500, 'failed calling webhook "w": connection refused', "InternalError"), Kind.BUSY),
    ("overloaded", status(503, "the server is currently unable to handle the request"), Kind.BUSY),
    ("server timeout", status(504, "request did not complete within requested timeout", "Timeout"), Kind.BUSY),
    ("redirect", KubeReply(302, "elsewhere"), Kind.BUSY),
    ("teapot", status(418, "I am a teapot"), Kind.REJECTED),
]


@pytest.mark.parametrize(("reply", "kind"), [row[1:] for row in CREATES], ids=[row[0] for row in CREATES])
def test_answer_to_a_create(reply: KubeReply, kind: Kind) -> None:
    """Each answer to a POST has one meaning, and the server's words are kept."""
    answer = answers.of_create(reply)

    assert answer.kind is kind
    assert answer.uid == ("uid-1" if kind is Kind.CREATED else "")
    if kind is not Kind.CREATED and isinstance(reply.body, dict):
        assert answer.message == reply.body["message"]


LOOKS = [
    ("ours", job("e-1"), Kind.CREATED),
    ("ours and finalized", job("e-1", labels={"heavylift.dev/finalized": "true"}), Kind.CREATED),
    ("ours, being deleted", job("e-1", deletionTimestamp="2026-11-22T08:00:00Z"), Kind.CREATED),
    ("another execution", job("e-2"), Kind.NAME_TAKEN),
    ("somebody else's", job(None), Kind.NAME_TAKEN),
    ("gone again", status(404, "not found", "NotFound"), Kind.BUSY),
    ("unreadable", status(500, "boom"), Kind.BUSY),
    ("RBAC", status(403, 'User "u" cannot get resource "jobs"', "Forbidden"), Kind.FORBIDDEN),
    ("terminating", status(403, "odd", "Forbidden"), Kind.BUSY),
]


@pytest.mark.parametrize(("reply", "kind"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_answer_to_a_look(reply: KubeReply, kind: Kind) -> None:
    """A Job that stands there is ours by its execution alone, whatever became of it."""
    answer = answers.of_look(reply, "e-1")

    assert answer.kind is kind
    assert answer.adopted == (kind is Kind.CREATED)


def test_retry_after_is_kept() -> None:
    """What the server asks to wait comes along."""
    assert answers.of_create(status(429, "slow", retry_after=3)).retry_after_s == 3.0
