"""A device that is suspended or revoked gets nothing, whichever credential it brings, wherever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from gateway_kit import Requester
from gateway_rig import Rig, certificate_of, open_rig, slug_of

from handfast.pki.authorities import Authority

STATES = [("suspend", "device-suspended"), ("revoke", "device-revoked")]


class Credentials:
    """One device with every kind of credential there is, all good at this moment."""

    superseded: x509.Certificate
    current: x509.Certificate
    pending: x509.Certificate
    idevid: x509.Certificate
    unused_token: str
    bound_token: str
    bound_key: Requester

    @classmethod
    async def of(cls, rig: Rig) -> Credentials:
        self = cls()
        await rig.add("a")
        self.unused_token = await rig.token()
        self.idevid = await rig.idevid(Requester.new())
        self.superseded = await rig.enrolled()
        self.current = await self._renewed(rig, self.superseded)
        assert (await rig.ping(self.current)).status_code == 200
        self.pending = await self._renewed(rig, self.current)
        self.bound_token, self.bound_key = await rig.token(), Requester.new()
        certificate_of(await rig.enrol(self.bound_key, token=self.bound_token))
        return self

    async def _renewed(self, rig: Rig, leaf: x509.Certificate) -> x509.Certificate:
        operation = "simplereenroll"
        return certificate_of(
            await rig.enrol(Requester.new(), certificate=leaf, operation=operation)
        )

    @property
    def leaves(self) -> dict[str, x509.Certificate]:
        return {
            "superseded": self.superseded,
            "current": self.current,
            "pending": self.pending,
        }


async def answers(rig: Rig, has: Credentials) -> dict[str, str]:
    """Return what every credential is told, by credential and place."""
    told = {}
    for name, leaf in has.leaves.items():
        told[f"{name} at the API"] = await rig.ping(leaf)
        renewal = rig.enrol(Requester.new(), certificate=leaf, operation="simplereenroll")
        told[f"{name} at re-enrolment"] = await renewal
    told["IDevID at enrolment"] = await rig.enrol(Requester.new(), certificate=has.idevid)
    told["unused token"] = await rig.enrol(Requester.new(), token=has.unused_token)
    told["bound token"] = await rig.enrol(has.bound_key, token=has.bound_token)
    with_both = rig.enrol(Requester.new(), token=has.unused_token, certificate=has.current)
    told["token over a leaf's connection"] = await with_both
    return {what: "served" if r.is_success else slug_of(r) for what, r in told.items()}


@pytest.mark.parametrize(("verb", "slug"), STATES)
def test_every_credential_is_refused_at_every_place_for_what_the_device_is(
    tmp_path: Path, authorities: dict[str, Authority], verb: str, slug: str
) -> None:
    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            has = await Credentials.of(rig)
            before = {row["sha256"] for row in await certificates(rig)}
            await rig.admin("POST", f"devices/a/{verb}")
            told = await answers(rig, has)
            assert set(told.values()) == {slug}, told
            assert {row["sha256"] for row in await certificates(rig)} == before

    asyncio.run(main())


def test_what_is_refused_while_suspended_is_good_again_when_resumed(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    """It also shows that the credentials of the test above are good ones."""

    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            has = await Credentials.of(rig)
            await rig.admin("POST", "devices/a/suspend")
            await rig.admin("POST", "devices/a/resume")
            assert (await rig.ping(has.superseded)).status_code == 200
            assert (await rig.ping(has.current)).status_code == 200
            again = await rig.enrol(has.bound_key, token=has.bound_token)
            assert again.status_code == 200
            for enrol in (
                rig.enrol(Requester.new(), token=has.unused_token),
                rig.enrol(Requester.new(), certificate=has.idevid),
                rig.enrol(Requester.new(), certificate=has.current, operation="simplereenroll"),
            ):
                certificate_of(await enrol)

    asyncio.run(main())


async def certificates(rig: Rig) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = (await rig.admin("GET", "devices/a")).json()["certificates"]
    return rows
