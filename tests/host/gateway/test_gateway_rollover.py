"""Trust anchor rollover at the gateway: what devices report, who is waited for, and the switch."""

from __future__ import annotations

import asyncio
import base64
import http.client
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from gateway_live import Live, copy_of, wait_for
from gateway_rig import Rig, open_rig, slug_of
from OpenSSL import SSL

from handfast.gateway.own_leaf import ContextPlan, OwnLeaves
from handfast.gateway.rollover import Rollover, issuers, lacking
from handfast.gateway.view import AnchorReport, DeviceRecord, DeviceState, RegistryView
from handfast.lab.gateway_process import GatewayOptions
from handfast.pki import rollover
from handfast.pki.authorities import Authority, load_authority
from handfast.pki.rollover import (
    begin_root_rollover,
    begin_server_rollover,
    fingerprint,
    issued_by,
    load_published,
)
from handfast.state import StateDir

PASSPHRASE = b"correct horse battery staple"
PLAN = ContextPlan((), "none")
OLD, NEW = "0" * 64, "f" * 64
Run = Callable[[Callable[[Rig], Awaitable[None]]], None]


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollover, "generate_key", lambda *_: rsa.generate_private_key(65537, 2048))


@pytest.fixture
def run(tmp_path: Path, authorities: dict[str, Authority]) -> Run:
    def run_case(work: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_rig(tmp_path, authorities) as rig:
                await rig.add("a")
                await work(rig)

        asyncio.run(main())

    return run_case


# ---- Who is waited for ----


def device(name: str, state: DeviceState = DeviceState.ACTIVE) -> DeviceRecord:
    return DeviceRecord(name, None, state, 0.0)


def test_active_devices_are_waited_for_until_they_report_the_new_anchor() -> None:
    view = RegistryView()
    view.apply(device(name) for name in ("has-both", "has-old", "silent"))
    view.apply([device("off", DeviceState.SUSPENDED), device("gone", DeviceState.REVOKED)])
    view.apply([AnchorReport("has-both", (OLD, NEW), (OLD,), 7.0)])
    view.apply([AnchorReport("has-old", (OLD,), (NEW,), 8.0)])
    assert lacking(view, "tls", NEW) == [
        {"device_id": "has-old", "reported": 8},
        {"device_id": "silent", "reported": None},
    ]
    assert [one["device_id"] for one in lacking(view, "root", NEW)] == ["has-both", "silent"]


# ---- What devices report ----


async def report(rig: Rig, leaf: x509.Certificate, seq: int, anchors: object) -> httpx.Response:
    body = {"boot_id": "1", "seq": seq, "values": {}, "anchors": anchors}
    async with rig.client("api", leaf) as client:
        return await client.post("/v1/devices/a/telemetry", json=body)


def test_the_last_report_of_a_devices_anchors_is_kept(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        assert (await rig.admin("GET", "devices/a")).json()["anchors"] is None
        for seq, tls in enumerate(([OLD], [OLD, NEW])):
            assert (await report(rig, leaf, seq, {"tls": tls, "root": [OLD]})).is_success
        shown = (await rig.admin("GET", "devices/a")).json()["anchors"]
        assert shown == {"tls": [OLD, NEW], "root": [OLD]}
        assert rig.gateway.registry.view.anchors["a"].tls == (OLD, NEW)

    run(work)


@pytest.mark.parametrize(
    "anchors",
    [
        None,
        [],
        {"tls": [OLD]},
        {"tls": [OLD], "root": [OLD], "more": []},
        {"tls": OLD, "root": []},
        {"tls": [OLD.upper().replace("0", "A")], "root": []},
        {"tls": [OLD[1:]], "root": []},
        {"tls": [7], "root": []},
        {"tls": [OLD] * 9, "root": []},
    ],
)
def test_a_report_that_is_none_is_refused_whole(run: Run, anchors: object) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        assert slug_of(await report(rig, leaf, 1, anchors)) == "bad-request"
        assert (await rig.admin("GET", "devices/a")).json()["anchors"] is None
        assert (await rig.admin("GET", "devices/a/telemetry")).json()["rows"] == []

    run(work)


def test_a_board_that_knows_cacerts_is_told_that_nothing_has_changed(run: Run) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("enrol") as client:
            path = "/.well-known/est/cacerts"
            first = await client.get(path)
            again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            gateway = rig.gateway
            gateway.published = replace(gateway.published, next_server=gateway.admin_ca)
            changed = await client.get(path, headers={"if-none-match": first.headers["etag"]})
            assert changed.status_code == 200
            found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(changed.content))
            assert gateway.admin_ca in found

    run(work)


# ---- The switch ----


@asynccontextmanager
async def rolling(
    folder: Path, state: StateDir, authorities: dict[str, Authority]
) -> AsyncIterator[tuple[Rig, Rollover, OwnLeaves]]:
    """Yield a gateway on CAs that may be rolled over, with leaves that are real."""
    async with open_rig(folder, authorities) as rig:
        gateway = rig.gateway
        leaves = OwnLeaves(
            issuers(gateway.authorities.values(), gateway.published),
            ["localhost"],
            lifetime_s=3600,
            clock=rig.clock,
            log=gateway.log,
        )
        await leaves.renew()
        gateway.rollover = follower = Rollover(state, PASSPHRASE, gateway, leaves)
        yield rig, follower, leaves


def leaf_issuer(leaves: OwnLeaves, published: list[x509.Certificate]) -> list[bool]:
    made = leaves._current()
    return [all(issued_by(pair.certificate, ca) for pair in made.pairs()) for ca in published]


def test_the_gateway_switches_when_the_last_active_device_has_reported(
    tmp_path: Path, ca_folder: StateDir, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        state = copy_of(ca_folder, tmp_path / "state")
        async with rolling(tmp_path, state, authorities) as (rig, follower, leaves):
            swapped: list[SSL.Context] = []
            leaves.swap_into(PLAN, swapped.append)
            await rig.add("a", "b")
            leaf = await rig.enrolled()
            new = begin_server_rollover(state, PASSPHRASE)
            told = await rig.admin("POST", "rollover/reload")
            old = rig.gateway.published.server
            assert told.json()["server"]["next"] == fingerprint(new)
            assert [row["device_id"] for row in told.json()["server"]["waiting_for"]] == ["a", "b"]
            assert len((await rig.admin("GET", "trust")).json()["tls_anchors"]) == 2
            await report(rig, leaf, 1, {"tls": [fingerprint(old), fingerprint(new)], "root": []})
            await follower.move_on()
            assert leaf_issuer(leaves, [old, new]) == [True, False]
            assert swapped == []
            await rig.admin("POST", "devices/b/suspend")
            await follower.move_on()
            assert leaf_issuer(leaves, [old, new]) == [False, True]
            assert len(swapped) == 1
            assert rig.gateway.authorities["server"].certificate == new
            assert load_published(state).server_cas == [new]
            audit = (await rig.admin("GET", "audit")).json()["rows"]
            assert audit[-1]["event"] == "server-ca-switched"
            assert slug_of(await rig.admin("POST", "rollover/server/switch")) == "no-rollover"

    asyncio.run(main())


def test_the_old_root_stays_published_while_a_server_ca_is_of_it(
    tmp_path: Path, ca_folder: StateDir, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        state = copy_of(ca_folder, tmp_path / "state")
        async with rolling(tmp_path, state, authorities) as (rig, follower, leaves):
            sent = len(leaves._current().issuers.behind)
            new = begin_root_rollover(state, PASSPHRASE)
            await follower.reload()
            assert len(leaves._current().issuers.behind) == sent + 1
            await follower.move_on()
            status = follower.status()["root"]
            assert (status["in_use"], status["waiting_for"]) == (fingerprint(new), [])
            assert status["old_signed_server_ca"]
            begin_server_rollover(state, PASSPHRASE)
            await follower.reload()
            await follower.move_on()  # the server CA, for nobody is waited for
            await follower.move_on()
            assert follower.status()["root"]["old"] is None
            assert slug_of(await rig.admin("POST", "rollover/root/retire")) == "no-rollover"

    asyncio.run(main())


def test_a_next_ca_whose_key_cannot_be_used_changes_nothing(
    tmp_path: Path, ca_folder: StateDir, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        state = copy_of(ca_folder, tmp_path / "state")
        async with rolling(tmp_path, state, authorities) as (rig, follower, leaves):
            old = rig.gateway.published.server
            begin_server_rollover(state, PASSPHRASE)
            await follower.reload()
            (state.next_server_ca / "key.pem").unlink()
            answer = await rig.admin("POST", "rollover/server/switch")
            assert (answer.status_code, slug_of(answer)) == (500, "rollover-failed")
            assert rig.gateway.published.server == old
            assert load_authority(state, "server", PASSPHRASE).certificate == old
            assert leaf_issuer(leaves, [old]) == [True]

    asyncio.run(main())


# ---- A gateway that runs ----


def connect(live: Live, anchor: Path) -> http.client.HTTPSConnection:
    """Open a connection to the enrol listener; it is never opened again by itself."""
    context = ssl.create_default_context(cafile=anchor)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    url = httpx.URL(live.urls["enrol"])
    connection = http.client.HTTPSConnection(url.host, url.port, timeout=20, context=context)
    connection.connect()
    connection.auto_open = 0
    return connection


def cacerts(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/.well-known/est/cacerts")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def presented(live: Live, anchor: Path) -> x509.Certificate:
    with closing(connect(live, anchor)) as connection:
        return x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True))


def test_open_connections_outlive_the_switch_and_new_ones_are_of_the_new_ca(
    tmp_path: Path, ca_folder: StateDir
) -> None:
    state = copy_of(ca_folder, tmp_path / "state")
    root = tmp_path / "root.pem"
    root.write_bytes(state.ca_certificate_pem("root").read_bytes())
    with (
        Live(state, GatewayOptions(), tmp_path) as live,
        closing(connect(live, root)) as kept,
    ):
        live.admin.add_device("never-reports")
        assert cacerts(kept) == 200
        new = begin_server_rollover(state, PASSPHRASE)
        live.admin.reload_trust()
        assert not issued_by(presented(live, root), new)
        status: dict[str, Any] = live.admin.switch_server_ca()
        assert status["server"] == {"in_use": fingerprint(new), "next": None, "waiting_for": []}
        assert issued_by(presented(live, root), new)
        assert cacerts(kept) == 200


def test_a_gateway_that_is_started_in_a_rollover_goes_on_with_it(
    tmp_path: Path, ca_folder: StateDir
) -> None:
    state = copy_of(ca_folder, tmp_path / "state")
    new = begin_server_rollover(state, PASSPHRASE)
    with Live(state, GatewayOptions(), tmp_path) as live:
        # Nobody is there to be waited for.
        wait_for(lambda: live.admin.rollover()["server"]["in_use"] == fingerprint(new) or None)
        anchor = tmp_path / "new.pem"
        anchor.write_bytes(new.public_bytes(Encoding.PEM))
        presented(live, anchor)
