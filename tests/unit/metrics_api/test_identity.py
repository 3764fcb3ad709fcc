"""Whom a front proxy speaks for, and whom it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from heavylift_operator.metrics_api.identity import (
    NOBODY,
    Asked,
    FrontProxy,
    User,
    access_review,
    identify,
    read,
    reviewed,
)

DATA = {
    "requestheader-client-ca-file": "-----BEGIN CERTIFICATE-----",
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-username-headers": '["X-Remote-User"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    "requestheader-uid-headers": '["X-Remote-Uid"]',
}
PROXY = read({"data": DATA})


def headers(*pairs: tuple[str, str]) -> CIMultiDict[str]:
    """Return headers as a server sees them."""
    return CIMultiDict(pairs)


def test_the_config_map_is_read_as_kubernetes_writes_it() -> None:
    """Lists are JSON inside of text."""
    assert (
        FrontProxy(
            ca="-----BEGIN CERTIFICATE-----",
            allowed_names=frozenset({"front-proxy-client"}),
            username_headers=("X-Remote-User",),
            uid_headers=("X-Remote-Uid",),
            group_headers=("X-Remote-Group",),
            extra_prefixes=("X-Remote-Extra-",),
        )
        == PROXY
    )


@pytest.mark.parametrize(
    "config_map",
    [
        {},
        {"data": None},
        {"data": {**DATA, "requestheader-client-ca-file": " \n"}},
        {"data": {key: value for key, value in DATA.items() if "client-ca" not in key}},
        {"data": {**DATA, "requestheader-username-headers": "[]"}},
        {"data": {**DATA, "requestheader-username-headers": "X-Remote-User"}},
        {"data": {**DATA, "requestheader-username-headers": '{"a": 1}'}},
        {"data": {**DATA, "requestheader-username-headers": '["X Remote", 7]'}},
    ],
)
def test_a_config_map_without_a_front_proxy_believes_nobody(config_map: Any) -> None:
    """No authority, or no header that says who: nobody is believed, with any certificate."""
    assert read(config_map) == NOBODY
    assert identify(NOBODY, "front-proxy-client", headers(("X-Remote-User", "admin"))) is None


def test_all_headers_of_a_user_are_taken() -> None:
    """Repeated groups in their order, extras with decoded keys, the uid, and system:authenticated."""
    user = identify(
        PROXY,
        "front-proxy-client",
        headers(
            ("x-remote-user", "jane"),
            ("X-Remote-Uid", "42"),
            ("X-Remote-Group", "dev"),
            ("X-Remote-Group", "system:nodes, not two"),
            ("X-Remote-Extra-Acme.com%2Fproject", "a"),
            ("X-Remote-Extra-acme.com%2fproject", "b"),
            ("X-Remote-Extra-scopes", "openid"),
            ("X-Remote-Extra-bad%zz", "kept"),
            ("X-Remote-Extra-", "no key"),
        ),
    )
    assert user == User(
        name="jane",
        uid="42",
        groups=("dev", "system:nodes, not two", "system:authenticated"),
        extra=(
            ("acme.com/project", ("a", "b")),
            ("bad%zz", ("kept",)),
            ("scopes", ("openid",)),
        ),
    )


def test_the_group_of_the_authenticated_is_not_added_twice() -> None:
    """A proxy may send it itself."""
    asked = headers(("X-Remote-User", "a"), ("X-Remote-Group", "system:authenticated"))
    user = identify(PROXY, "front-proxy-client", asked)
    assert user is not None
    assert user.groups == ("system:authenticated",)


@pytest.mark.parametrize("common_name", ["", "other", "Front-Proxy-Client", "front-proxy-client "])
def test_headers_alone_are_nobodys_word(common_name: str) -> None:
    """Without a certificate, or with one of another name, the headers say nothing."""
    assert (
        identify(PROXY, common_name, headers(("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters"))) is None
    )


def test_an_empty_list_of_names_admits_each_certificate_of_the_authority() -> None:
    """As Kubernetes has it; still none without a certificate."""
    anyone = read({"data": {**DATA, "requestheader-allowed-names": "[]"}})
    asked = headers(("X-Remote-User", "a"))
    assert identify(anyone, "whoever", asked) is not None
    assert identify(anyone, "", asked) is None


@pytest.mark.parametrize("names", ["front-proxy-client", '{"a": 1}', "[1]", "x" * 30_000])
def test_a_list_of_names_that_cannot_be_read_admits_nobody(names: str) -> None:
    """Only a list without names means any."""
    assert read({"data": {**DATA, "requestheader-allowed-names": names}}) == NOBODY


@pytest.mark.parametrize("name", ["", "\udcff"])
def test_a_user_without_a_name_that_is_text_is_nobody(name: str) -> None:
    """Bytes that are no text could be taken for another name further on."""
    assert identify(PROXY, "front-proxy-client", headers(("X-Remote-User", name))) is None


def test_headers_the_proxy_does_not_own_are_ignored() -> None:
    """Only those the ConfigMap names count."""
    asked = headers(("X-Remote-User", "jane"), ("X-Remote-Groups", "system:masters"), ("X-Forwarded-User", "root"))
    assert identify(PROXY, "front-proxy-client", asked) == User("jane", groups=("system:authenticated",))


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40) | st.none(), max_size=6))
def test_any_config_map_can_be_read(data: dict[str, Any]) -> None:
    """What is not as expected is as if it were not there."""
    assert read({"data": data}) == NOBODY


def test_an_access_review_asks_about_a_metric_or_a_path() -> None:
    """Exactly one kind of attributes; the user as a whole."""
    user = User("jane", "42", ("dev",), (("scopes", ("openid",)),))
    metric = access_review(user, Asked("list", "/x", "ns", "heavylift_queue_demand"), group="g", version="v")["spec"]
    assert metric == {
        "user": "jane",
        "uid": "42",
        "groups": ["dev"],
        "extra": {"scopes": ["openid"]},
        "resourceAttributes": {
            "group": "g",
            "version": "v",
            "namespace": "ns",
            "resource": "heavylift_queue_demand",
            "verb": "list",
        },
    }
    path = access_review(User("bob"), Asked("get", "/apis"), group="g", version="v")["spec"]
    assert path == {"user": "bob", "groups": [], "extra": {}, "nonResourceAttributes": {"path": "/apis", "verb": "get"}}


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ({"authenticated": True, "user": {"username": "sa", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}}, "sa"),
        ({"authenticated": False, "user": {"username": "sa"}}, None),
        ({"authenticated": "true", "user": {"username": "sa"}}, None),
        ({"authenticated": True, "user": {}}, None),
        ({"authenticated": True, "user": {"username": "sa", "groups": "g", "extra": {"k": "v"}}}, "sa"),
        ({}, None),
    ],
)
def test_a_token_is_somebodys_only_when_the_review_says_so(status: Any, name: str | None) -> None:
    """Only a plain true with a name counts."""
    user = reviewed(json.loads(json.dumps(status)))
    assert (user.name if user else None) == name
    assert user is None or "system:authenticated" in user.groups
