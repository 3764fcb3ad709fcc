"""Certificates over years: never served before it is trusted, never distrusted while it is served."""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from heavylift_operator.metrics_api import certificates
from heavylift_operator.metrics_api.certificates import Material, Pair, Policy, new_authority, new_leaf, step

POLICY = Policy(names=("m.ns.svc", "m.ns"))
START = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
MINUTE, DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)


def settled(held: Material, now: dt.datetime, policy: Policy = POLICY) -> Material:
    """Make steps until there is nothing to do."""
    for _ in range(10):
        held, why = step(held, policy, now)
        if not why:
            return held
    raise AssertionError("no end of steps")


def trusted(held: Material) -> list[x509.Certificate]:
    """Return the certificates of the bundle."""
    return x509.load_pem_x509_certificates(held.bundle.encode())


def signed_by(leaf: Pair | None, authorities: list[x509.Certificate]) -> bool:
    """Return whether one of these authorities signed it."""
    assert leaf is not None
    for authority in authorities:
        if authority.subject == leaf.certificate.issuer:
            leaf.certificate.verify_directly_issued_by(authority)
            return True
    return False


def test_an_empty_secret_is_filled_in_one_step_and_then_rests() -> None:
    """Authority and certificate come together; what is read back is the same and asks for nothing."""
    made, why = step(Material.read({}), POLICY, START)
    assert "a new one is made" in why
    again = Material.read(made.data)
    assert step(again, POLICY, START) == (again, "")
    assert set(made.data) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert trusted(again) == [again.authority.certificate] if again.authority else False
    assert signed_by(again.leaf, trusted(again))


def test_a_certificate_is_for_servers_of_these_names_and_an_authority_for_signing() -> None:
    """Extensions say what each may be used for, the API server's verifier insists on the names."""
    made = settled(Material(), START)
    assert made.leaf is not None
    assert made.authority is not None
    leaf, authority = made.leaf.certificate, made.authority.certificate
    assert certificates.names_of(leaf) == ["m.ns.svc", "m.ns"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - START == POLICY.leaf
    assert authority.not_valid_after_utc - START == POLICY.authority


def test_nothing_changes_within_the_first_sixty_days() -> None:
    """A third of its life is left when a certificate is renewed."""
    held = settled(Material(), START)
    assert [day for day in range(90) if step(held, POLICY, START + day * DAY)[1]] == list(range(61, 90))


def test_over_twelve_years_whoever_is_ten_minutes_late_still_understands_the_rest() -> None:
    """Every bundle of the last ten minutes accepts every certificate of the last ten minutes."""
    now, held = START, settled(Material(), START)
    recent = [(START, held)]
    written, authorities = 0, {trusted(held)[0].subject}
    while now < START + 12 * 365 * DAY:
        held, why = step(held, POLICY, now)
        if not why:
            now += MINUTE if held.upcoming or held.former else 5 * DAY
            continue
        written += 1
        replaced = [when for when, _ in recent[1:]] + [now]
        recent = [one for one, until in zip(recent, replaced, strict=True) if until > now - 10 * MINUTE] + [(now, held)]
        for _, one in recent:
            assert all(signed_by(other.leaf, trusted(one)) for _, other in recent), why
        assert held.leaf is not None
        assert held.leaf.certificate.not_valid_after_utc > now + 20 * DAY
        authorities |= {one.subject for one in trusted(held)}
    assert len(authorities) == 3  # five years each, the next announced after four
    assert 70 <= written <= 90


def test_a_new_authority_waits_until_it_is_known_and_the_old_one_leaves_last() -> None:
    """Announced, signing, alone: ten minutes between each."""
    old = settled(Material(), START)
    now = START + 4.2 * 365 * DAY
    renewed, why = step(old, POLICY, now)
    assert why == "the serving certificate ends soon"
    announced, why = step(renewed, POLICY, now)
    assert "announced" in why
    assert len(trusted(announced)) == 2
    assert step(announced, POLICY, now + 9 * MINUTE)[1] == ""
    for unknown in ("", old.bundle):
        assert step(announced, POLICY, now + 10 * MINUTE, known=unknown)[1] == "", "the API server has not read it"
    signing, why = step(announced, POLICY, now + 10 * MINUTE, known=announced.bundle)
    assert "signs from now on" in why
    assert signing.former == trusted(old)[0]
    assert len(trusted(signing)) == 2
    assert step(signing, POLICY, now + 19 * MINUTE)[1] == ""
    alone, why = step(signing, POLICY, now + 20 * MINUTE)
    assert "nothing the former authority signed" in why
    assert trusted(alone) == [announced.upcoming.certificate] if announced.upcoming else False


def _broken() -> dict[str, tuple[dict[str, str], str]]:
    held = settled(Material(), START)
    assert held.authority is not None
    assert held.leaf is not None
    other = settled(Material(), START)
    junk = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nnot\n-----END CERTIFICATE-----\n").decode()
    renamed = new_leaf(held.authority, Policy(names=("old.ns.svc",)), START)
    return {
        "no key of the authority": ({**held.data, "ca.key": ""}, "no authority"),
        "another key": ({**held.data, "ca.key": other.data["ca.key"]}, "no authority"),
        "no authority": ({"tls.crt": held.data["tls.crt"]}, "no authority"),
        "junk": ({**held.data, "ca.crt": junk}, "no authority"),
        "no base64": ({**held.data, "ca.crt": "%%%"}, "no authority"),
        "an authority that is none": (replace(held, authority=held.leaf).data, "no authority"),
        "no certificate": ({k: v for k, v in held.data.items() if k[:3] == "ca."}, "there is no serving certificate"),
        "junk as certificate": ({**held.data, "tls.crt": junk}, "there is no serving certificate"),
        "somebody else's certificate": (replace(held, leaf=other.leaf).data, "is not the authority's"),
        "other names": (replace(held, leaf=renamed).data, "is for other names"),
    }


@pytest.mark.parametrize("case", _broken())
def test_what_is_broken_in_the_secret_is_made_anew(case: str) -> None:
    """One step mends it, and says what was wrong."""
    data, words = _broken()[case]
    made, why = step(Material.read(data), POLICY, START)
    assert words in why
    assert step(Material.read(made.data), POLICY, START)[1] == ""
    assert signed_by(made.leaf, trusted(made))


@pytest.mark.parametrize("data", [{"ca.crt": 7}, {"ca.crt": None, "tls.crt": []}, {"ca.crt": "A" * 200_000}])
def test_any_secret_can_be_read(data: Any) -> None:
    """What is no text, or far too long, is not there."""
    assert Material.read(data) == Material()


def test_an_authority_that_ended_is_replaced_at_once() -> None:
    """A cluster that slept for years serves again; there is nothing to keep then."""
    held = settled(Material(), START)
    made, why = step(held, POLICY, START + 6 * 365 * DAY)
    assert "no authority" in why
    assert made.former is None


def test_a_certificate_never_outlives_its_authority() -> None:
    """A verifier would refuse it from then on."""
    authority = new_authority(Policy(names=("a",), authority=30 * DAY), START)
    leaf = new_leaf(authority, POLICY, START)
    assert leaf.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert isinstance(leaf.key, ec.EllipticCurvePrivateKey)
