from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from handfast.gateway.authorise import Allow, Purpose, Refuse, RequestFacts, authorise
from handfast.gateway.view import (
    CertificateKind,
    CertificateRecord,
    CertificateState,
    DeviceRecord,
    DeviceState,
    RegistryView,
    Revocation,
)

OVERLAP_S = 300.0
NOW = 1_000_000.0
# Near the edges of every rule that compares times.
OFFSETS = st.sampled_from([-3601.0, -301.0, -300.0, -299.9, -1.0, 0.0, 0.1, 1.0, 299.0, 3600.0])
PATHS = st.sampled_from([None, "a", "b"])


@st.composite
def certificates(draw: st.DrawFn) -> CertificateRecord:
    state = draw(st.sampled_from(CertificateState))
    superseded = state is CertificateState.SUPERSEDED
    return CertificateRecord(
        sha256=b"\x01" * 32,
        device_id="a",
        kind=draw(st.sampled_from(CertificateKind)),
        ca="device",
        serial="1f",
        not_before=int(NOW + draw(OFFSETS)),
        not_after=int(NOW + draw(OFFSETS)),
        state=state,
        switched_at=NOW + draw(OFFSETS) if superseded else None,
    )


@st.composite
def views(draw: st.DrawFn) -> RegistryView:
    view = RegistryView()
    view.apply([DeviceRecord("a", None, draw(st.sampled_from(DeviceState)), NOW)])
    view.apply([draw(certificates())])
    if draw(st.booleans()):
        ca, serial = draw(st.sampled_from([("device", "1f"), ("factory", "1f"), ("device", "2")]))
        view.apply([Revocation(ca, serial, NOW, "superseded", int(NOW) + 9)])
    return view


FACTS = st.builds(RequestFacts, st.sampled_from(Purpose), PATHS)


def decide(view: RegistryView, facts: RequestFacts, now: float = NOW) -> Allow | Refuse:
    return authorise(facts, b"\x01" * 32, now=now, view=view, overlap_s=OVERLAP_S)


def good_view(**changes: object) -> RegistryView:
    record = CertificateRecord(
        sha256=b"\x01" * 32,
        device_id="a",
        kind=CertificateKind.LDEVID,
        ca="device",
        serial="1f",
        not_before=int(NOW) - 60,
        not_after=int(NOW) + 60,
        state=CertificateState.CURRENT,
    )
    view = RegistryView()
    view.apply([DeviceRecord("a", None, DeviceState.ACTIVE, NOW), replace(record, **changes)])
    return view


@given(views(), FACTS)
def test_what_is_allowed_satisfies_every_rule(view: RegistryView, facts: RequestFacts) -> None:
    decision = decide(view, facts)
    if isinstance(decision, Refuse):
        return
    (certificate,) = view.certificates.values()
    assert view.devices["a"].state is DeviceState.ACTIVE
    assert certificate.not_before <= NOW <= certificate.not_after
    assert ("device", "1f") not in view.revocations
    assert certificate.state in ("pending", "current", "superseded")
    if certificate.switched_at is not None:
        assert certificate.switched_at + OVERLAP_S > NOW
    assert (certificate.kind is CertificateKind.IDEVID) == (facts.purpose is Purpose.ENROL)
    assert facts.path_device_id in (None, "a")
    expects_switch = certificate.state is CertificateState.PENDING and facts.purpose is Purpose.API
    assert decision.switch == expects_switch


@given(views(), FACTS)
def test_a_refusal_names_a_rule_that_is_broken(view: RegistryView, facts: RequestFacts) -> None:
    decision = decide(view, facts)
    (certificate,) = view.certificates.values()
    state, device = certificate.state, view.devices["a"].state
    wanted = CertificateKind.IDEVID if facts.purpose is Purpose.ENROL else CertificateKind.LDEVID
    since = certificate.switched_at
    broken = {
        "device-revoked": device is DeviceState.REVOKED,
        "device-suspended": device is DeviceState.SUSPENDED,
        "certificate-not-yet-valid": certificate.not_before > NOW,
        "certificate-expired": certificate.not_after < NOW,
        "certificate-superseded": state is CertificateState.REPLACED
        or (since is not None and since + OVERLAP_S <= NOW),
        "certificate-revoked": state is CertificateState.REVOKED
        or ("device", "1f") in view.revocations,
        "wrong-certificate-kind": certificate.kind is not wanted,
        "not-your-path": facts.path_device_id == "b",
    }
    if isinstance(decision, Refuse):
        assert broken[decision.slug]
        assert decision.device_id == "a"
    else:
        assert not any(broken.values())


@given(views(), FACTS)
def test_revoking_a_serial_never_opens_a_door(view: RegistryView, facts: RequestFacts) -> None:
    before = decide(view, facts)
    view.apply([Revocation("device", "1f", NOW, "superseded", int(NOW) + 9)])
    after = decide(view, facts)
    assert isinstance(after, Refuse)
    if isinstance(before, Refuse):
        assert after.slug in (before.slug, "certificate-revoked")


def test_no_certificate_and_an_unknown_one_are_told_apart() -> None:
    facts = RequestFacts(Purpose.API)
    common = {"now": NOW, "view": good_view(), "overlap_s": OVERLAP_S}
    assert authorise(facts, None, **common) == Refuse("no-certificate")
    assert authorise(facts, b"\x02" * 32, **common) == Refuse("unknown-certificate")


def test_a_serial_revoked_at_another_ca_does_not_count() -> None:
    view = good_view()
    view.apply([Revocation("factory", "1f", NOW, "superseded", int(NOW) + 9)])
    assert isinstance(decide(view, RequestFacts(Purpose.API)), Allow)


def test_a_superseded_leaf_is_good_until_its_overlap_ends_or_it_expires() -> None:
    view = good_view(state=CertificateState.SUPERSEDED, switched_at=NOW, not_after=int(NOW) + 999)
    facts = RequestFacts(Purpose.API, "a")
    assert isinstance(decide(view, facts, NOW + 299.9), Allow)
    assert decide(view, facts, NOW + 300) == Refuse("certificate-superseded", "a")
    short = good_view(state=CertificateState.SUPERSEDED, switched_at=NOW, not_after=int(NOW) + 9)
    assert decide(short, facts, NOW + 10) == Refuse("certificate-expired", "a")
