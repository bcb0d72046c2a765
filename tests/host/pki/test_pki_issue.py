from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from hypothesis import given
from hypothesis import strategies as st
from pki_kit import NOW, assert_extensions, new_key

from handfast.errors import Refused, UsageError
from handfast.pki.authorities import Authority
from handfast.pki.issue import (
    issue_admin_leaf,
    issue_device_leaf,
    issue_idevid,
    issue_ocsp_leaf,
    issue_server_leaf,
    issue_tsa_leaf,
)
from handfast.pki.profiles import leaf_validity

_WEEK_S = 7 * 86_400
_URI = x509.UniformResourceIdentifier("spiffe://example.test/device/pump-7")


def _at(authority: Authority) -> datetime:
    """A time of use soon after the CA was made."""
    return authority.certificate.not_valid_before_utc + timedelta(hours=2)


def _life(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def _device_leaf(authority: Authority, **changes: object) -> x509.Certificate:
    arguments: dict[str, object] = {
        "public_key": new_key().public_key(),
        "device_id": "pump-7",
        "trust_domain": "example.test",
        "hardware_id": "E661",
        "lifetime_s": 86_400,
        "now": _at(authority),
    }
    return issue_device_leaf(authority, **(arguments | changes))  # type: ignore[arg-type]


def test_device_leaf_is_a_client_with_the_names_of_the_registry(
    authorities: dict[str, Authority],
) -> None:
    device, key = authorities["device"], new_key().public_key()
    leaf = _device_leaf(device, public_key=key)
    leaf.verify_directly_issued_by(device.certificate)
    assert leaf.public_key() == key
    assert leaf.subject.rfc4514_string() == "2.5.4.5=E661,CN=pump-7"
    assert leaf.not_valid_before_utc == _at(device) - timedelta(seconds=60)
    assert _life(leaf) == timedelta(days=1)
    assert_extensions(
        leaf, issuer=device.certificate, ca=False, usages=(Usage.CLIENT_AUTH,), names=(_URI,)
    )


def test_idevid_lives_as_long_as_the_factory_ca(authorities: dict[str, Authority]) -> None:
    factory = authorities["factory"]
    leaf = issue_idevid(
        factory,
        public_key=new_key().public_key(),
        device_id="pump-7",
        trust_domain="example.test",
        hardware_id=None,
        now=_at(factory),
    )
    leaf.verify_directly_issued_by(factory.certificate)
    assert leaf.not_valid_after_utc == factory.certificate.not_valid_after_utc
    assert_extensions(
        leaf, issuer=factory.certificate, ca=False, usages=(Usage.CLIENT_AUTH,), names=(_URI,)
    )


@pytest.mark.parametrize(
    ("kind", "key_type"), [("rsa", rsa.RSAPrivateKey), ("p256", ec.EllipticCurvePrivateKey)]
)
def test_server_leaf_has_every_name_once(
    authorities: dict[str, Authority], kind: Literal["rsa", "p256"], key_type: type
) -> None:
    server = authorities["server"]
    pair = issue_server_leaf(
        server,
        key_kind=kind,
        names=["gw.example.test", "127.0.0.1", "gw.example.test", "::1"],
        lifetime_s=_WEEK_S,
        now=_at(server),
    )
    assert isinstance(pair.private_key, key_type)
    assert pair.private_key.public_key() == pair.certificate.public_key()
    pair.certificate.verify_directly_issued_by(server.certificate)
    assert_extensions(
        pair.certificate,
        issuer=server.certificate,
        ca=False,
        usages=(Usage.SERVER_AUTH,),
        names=(
            x509.DNSName("gw.example.test"),
            x509.IPAddress(ip_address("127.0.0.1")),
            x509.IPAddress(ip_address("::1")),
        ),
    )


def test_time_stamp_leaf_is_rsa_2048_and_for_time_stamps_alone(
    authorities: dict[str, Authority],
) -> None:
    server = authorities["server"]
    pair = issue_tsa_leaf(server, lifetime_s=_WEEK_S, now=_at(server))
    assert isinstance(pair.private_key, rsa.RSAPrivateKey)
    assert pair.private_key.key_size == 2048
    assert_extensions(
        pair.certificate, issuer=server.certificate, ca=False, usages=(Usage.TIME_STAMPING,)
    )


def test_admin_leaf_is_a_client(authorities: dict[str, Authority]) -> None:
    admin = authorities["admin"]
    leaf = issue_admin_leaf(
        admin, name="Ada", public_key=new_key().public_key(), lifetime_s=60, now=_at(admin)
    )
    assert leaf.subject.rfc4514_string() == "CN=Ada"
    assert_extensions(leaf, issuer=admin.certificate, ca=False, usages=(Usage.CLIENT_AUTH,))


def test_a_leaf_lives_as_long_as_was_asked_for_and_no_longer(
    authorities: dict[str, Authority],
) -> None:
    server, now = authorities["server"], _at(authorities["server"])
    week = [
        issue_server_leaf(server, key_kind="p256", names=["gw"], lifetime_s=_WEEK_S, now=now),
        issue_tsa_leaf(server, lifetime_s=_WEEK_S, now=now),
        issue_ocsp_leaf(authorities["device"], lifetime_s=_WEEK_S, now=now),
    ]
    assert {_life(pair.certificate) for pair in week} == {timedelta(days=7)}
    for lifetime_s in (1, 15, 600, 86_400):
        leaf = _device_leaf(authorities["device"], lifetime_s=lifetime_s)
        assert _life(leaf) == timedelta(seconds=lifetime_s)


@pytest.mark.parametrize("lifetime_s", [0, -1, _WEEK_S + 1])
def test_no_gateway_leaf_of_more_than_seven_days_is_issued(
    authorities: dict[str, Authority], lifetime_s: int
) -> None:
    server = authorities["server"]
    with pytest.raises(UsageError, match="lives at"):
        issue_tsa_leaf(server, lifetime_s=lifetime_s, now=_at(server))
    with pytest.raises(UsageError, match="lives at"):
        issue_server_leaf(
            server, key_kind="p256", names=["gw"], lifetime_s=lifetime_s, now=_at(server)
        )


@pytest.mark.parametrize("name", ["root", "device", "factory", "admin"])
def test_no_other_ca_issues_server_leaves(authorities: dict[str, Authority], name: str) -> None:
    with pytest.raises(Refused, match="may not issue"):
        issue_server_leaf(authorities[name], key_kind="p256", names=["gw"], lifetime_s=60, now=NOW)


@pytest.mark.parametrize("name", ["root", "server", "factory", "admin"])
def test_no_other_ca_issues_device_leaves(authorities: dict[str, Authority], name: str) -> None:
    with pytest.raises(Refused, match="may not issue"):
        _device_leaf(authorities[name])


@pytest.mark.parametrize("name", ["root", "server", "device", "admin"])
def test_no_other_ca_issues_idevids(authorities: dict[str, Authority], name: str) -> None:
    with pytest.raises(Refused, match="may not issue"):
        issue_idevid(
            authorities[name],
            public_key=new_key().public_key(),
            device_id="pump-7",
            trust_domain="example.test",
            hardware_id=None,
            now=_at(authorities[name]),
        )


@pytest.mark.parametrize("name", ["root", "server", "device", "factory"])
def test_no_other_ca_issues_admin_leaves(authorities: dict[str, Authority], name: str) -> None:
    with pytest.raises(Refused, match="may not issue"):
        issue_admin_leaf(
            authorities[name],
            name="Ada",
            public_key=new_key().public_key(),
            lifetime_s=60,
            now=_at(authorities[name]),
        )


def test_a_ca_issues_nothing_before_it_is_valid_itself(authorities: dict[str, Authority]) -> None:
    start = authorities["device"].certificate.not_valid_before_utc
    assert _device_leaf(authorities["device"], now=start).not_valid_before_utc == start
    with pytest.raises(Refused, match="clock"):
        _device_leaf(authorities["device"], now=start - timedelta(seconds=1))


def test_a_leaf_never_outlives_its_ca_and_an_expired_ca_issues_none(
    authorities: dict[str, Authority],
) -> None:
    end = authorities["device"].certificate.not_valid_after_utc
    leaf = _device_leaf(authorities["device"], now=end - timedelta(hours=1))
    assert leaf.not_valid_after_utc == end
    with pytest.raises(Refused, match="expired"):
        _device_leaf(authorities["device"], now=end)


@pytest.mark.parametrize(
    "changes",
    [
        {"device_id": "Pump"},
        {"trust_domain": "a/b"},
        {"hardware_id": ""},
        {"lifetime_s": 0},
        {"lifetime_s": 10**18},
        {"public_key": ec.generate_private_key(ec.SECP384R1()).public_key()},
        {"public_key": rsa.generate_private_key(65537, 2048).public_key()},
    ],
    ids=["device_id", "trust_domain", "hardware_id", "lifetime_s", "overflow", "p384", "rsa"],
)
def test_what_no_device_leaf_may_carry_is_refused(
    authorities: dict[str, Authority], changes: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        _device_leaf(authorities["device"], **changes)


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb"])
def test_odd_admin_names_are_refused(authorities: dict[str, Authority], name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        issue_admin_leaf(
            authorities["admin"],
            name=name,
            public_key=new_key().public_key(),
            lifetime_s=60,
            now=_at(authorities["admin"]),
        )


def test_a_gateway_needs_a_name(authorities: dict[str, Authority]) -> None:
    with pytest.raises(UsageError, match="--name"):
        issue_server_leaf(authorities["server"], key_kind="p256", names=[], lifetime_s=60, now=NOW)


def test_serial_numbers_are_long_random_and_never_the_same(
    authorities: dict[str, Authority],
) -> None:
    key = new_key().public_key()
    serials = [
        _device_leaf(authorities["device"], public_key=key).serial_number for _ in range(100)
    ]
    assert len(set(serials)) == 100
    # Every one of the 64 lowest bits is seen set and seen clear: none is a constant or a counter.
    everywhere, anywhere = serials[0], serials[0]
    for serial in serials:
        everywhere, anywhere = everywhere & serial, anywhere | serial
    low = (1 << 64) - 1
    assert everywhere & low == 0
    assert anywhere & low == low
    assert max(serials).bit_length() <= 159


@given(
    now=st.datetimes(
        min_value=datetime(2000, 1, 2),
        max_value=datetime(2049, 1, 1),
        timezones=st.timezones(),
    ),
    lifetime_s=st.integers(1, 10 * 366 * 86_400),
)
def test_validity_is_whole_seconds_around_now(now: datetime, lifetime_s: int) -> None:
    validity = leaf_validity(now, lifetime_s)
    now = now.astimezone(UTC)  # Elsewhere adding seconds crosses summer time.
    assert validity.not_before.microsecond == validity.not_after.microsecond == 0
    assert validity.not_after - validity.not_before == timedelta(seconds=lifetime_s)
    before = now - validity.not_before
    assert timedelta(0) <= before < timedelta(seconds=61)
    # A board renews at two thirds at the latest: that is well ahead, however short the life.
    assert before < timedelta(seconds=lifetime_s / 10 + 1)
