from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from gateway_kit import Requester
from gateway_rig import Peer, Rig, certificate_of, open_rig, slug_of

from handfast.gateway.writer import Transaction
from handfast.pki.authorities import Authority

Run = Callable[[Callable[[Rig], Awaitable[None]]], None]
ROW = {"boot_id": "1f", "seq": 1, "values": {"celsius": 21.5}}


@pytest.fixture
def run(tmp_path: Path, authorities: dict[str, Authority]) -> Run:
    def run_case(work: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_rig(tmp_path, authorities, overlap_s=2) as rig:
                await rig.add("a", "b")
                await work(rig)

        asyncio.run(main())

    return run_case


async def send(
    rig: Rig, leaf: x509.Certificate, body: object, *, device_id: str = "a"
) -> tuple[int, object]:
    async with rig.client("api", leaf) as client:
        answer = await client.post(f"/v1/devices/{device_id}/telemetry", json=body)
    return answer.status_code, answer.json() if answer.is_success else slug_of(answer)


def test_a_device_learns_who_it_is(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        async with rig.client("api", leaf) as client:
            assert (await client.get("/v1/ping")).json() == {
                "device_id": "a",
                "time": int(rig.clock()),
            }
            me = (await client.get("/v1/devices/me")).json()
        assert me["device_id"] == "a"
        assert me["state"] == "active"
        assert int(me["certificate"]["serial"], 16) == leaf.serial_number
        assert me["certificate"]["not_after"] == int(leaf.not_valid_after_utc.timestamp())

    run(work)


def test_telemetry_is_stored_once_and_can_be_read_by_an_administrator(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        assert await send(rig, leaf, ROW) == (200, {"stored": True})
        assert await send(rig, leaf, ROW) == (200, {"stored": False})
        assert await send(rig, leaf, ROW | {"seq": 2}) == (200, {"stored": True})
        rows = (await rig.admin("GET", "devices/a/telemetry")).json()["rows"]
        assert [(r["boot_id"], r["seq"], r["values"]) for r in rows] == [
            ("1f", 1, {"celsius": 21.5}),
            ("1f", 2, {"celsius": 21.5}),
        ]
        later = await rig.admin("GET", f"devices/a/telemetry?after={rows[0]['id']}")
        assert [row["seq"] for row in later.json()["rows"]] == [2]

    run(work)


def test_a_full_disk_is_answered_with_try_again_later(run: Run) -> None:
    def limit(tx: Transaction, pages: int) -> None:
        tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        await rig.gateway.registry.write(partial(limit, pages=1))
        large = ROW | {"values": {"x": "y" * 15_000}}
        assert await send(rig, leaf, large) == (503, "too-busy")
        assert (await rig.admin("GET", "devices/a/telemetry")).json() == {"rows": []}
        assert (await rig.ping(leaf)).status_code == 200
        await rig.gateway.registry.write(partial(limit, pages=1_000_000))
        assert await send(rig, leaf, large) == (200, {"stored": True})

    run(work)


@pytest.mark.parametrize(
    "row",
    [
        {},
        ROW | {"boot_id": ""},
        ROW | {"boot_id": "x" * 33},
        ROW | {"boot_id": 7},
        ROW | {"boot_id": "a\n"},
        ROW | {"seq": -1},
        ROW | {"seq": 1.5},
        ROW | {"seq": True},
        ROW | {"seq": 2**53},
        ROW | {"values": []},
    ],
)
def test_malformed_telemetry_is_refused(run: Run, row: object) -> None:
    async def work(rig: Rig) -> None:
        assert await send(rig, await rig.enrolled(), row) == (400, "bad-request")

    run(work)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"x"', b"{", b'{"a":NaN}', b"[" * 16_000, b'{"seq":' + b"9" * 9999 + b"}"]
)
def test_what_is_not_a_json_object_is_refused(run: Run, body: bytes) -> None:
    async def work(rig: Rig) -> None:
        headers = {"content-type": "application/json"}
        async with rig.client("api", await rig.enrolled()) as client:
            path = "/v1/devices/a/telemetry"
            assert slug_of(await client.post(path, content=body, headers=headers)) == "bad-json"
            large = await client.post(path, content=b" " * 16_385, headers=headers)
            assert slug_of(large) == "body-too-large"
            assert slug_of(await client.post(path, content=b"{}")) == "content-type"

    run(work)


@pytest.mark.parametrize(
    "values",
    [b'{"x":1e999}', b'{"x":"\\ud800"}', b'{"\\udfff":1}', b'{"x":' + b"[" * 40 + b"]" * 40 + b"}"],
    ids=["infinite", "half a character", "half a name", "deep"],
)
def test_a_device_cannot_store_what_nobody_can_read_afterwards(run: Run, values: bytes) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        body = b'{"boot_id":"1","seq":1,"values":' + values + b"}"
        headers = {"content-type": "application/json"}
        async with rig.client("api", leaf) as client:
            path = "/v1/devices/a/telemetry"
            refused = await client.post(path, content=body, headers=headers)
        stored = await rig.admin("GET", "devices/a/telemetry")
        assert (stored.status_code, stored.json()) == (200, {"rows": []})
        assert slug_of(refused) == "bad-json"

    run(work)


def test_what_a_device_may_store_comes_back_as_it_was(run: Run) -> None:
    async def work(rig: Rig) -> None:
        values = {"deep": [[[[{"é": "\u2028😀\0"}]]]], "n": [-0.0, 1e308, 2**70, None, True]}
        leaf = await rig.enrolled()
        assert await send(rig, leaf, ROW | {"values": values}) == (200, {"stored": True})
        (row,) = (await rig.admin("GET", "devices/a/telemetry")).json()["rows"]
        assert row["values"] == values

    run(work)


def test_config_is_the_administrators_for_that_device(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        async with rig.client("api", leaf) as client:
            assert (await client.get("/v1/devices/a/config")).json() == {"telemetry_interval_s": 5}
            await rig.admin("PUT", "devices/a/config", {"telemetry_interval_s": 1, "led": "on"})
            assert (await client.get("/v1/devices/a/config")).json() == {
                "telemetry_interval_s": 1,
                "led": "on",
            }

    run(work)


async def windows(rig: Rig, *device_ids: str) -> list[object]:
    return [
        (await rig.admin("GET", f"devices/{name}")).json()["settings"].get("renewal_window")
        for name in device_ids
    ]


def test_a_window_to_renew_in_is_suggested_to_some_or_all(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        ask = {"window": [1000, 2000], "device_ids": None}
        assert (await rig.admin("PUT", "renewal-window", ask)).json()["devices"] == 2
        await rig.admin("PUT", "devices/a/config", {"led": "on"})
        async with rig.client("api", leaf) as client:
            config = (await client.get("/v1/devices/a/config")).json()
        assert config == {"telemetry_interval_s": 5, "led": "on", "renewal_window": [1000, 2000]}
        ask = {"window": None, "device_ids": ["a"]}
        assert (await rig.admin("PUT", "renewal-window", ask)).json()["devices"] == 1
        assert await windows(rig, "a", "b") == [None, [1000, 2000]]
        assert len((await rig.admin("GET", "audit?device=b")).json()["rows"]) == 1

    run(work)


def test_a_stopped_device_is_not_among_all(run: Run) -> None:
    async def work(rig: Rig) -> None:
        await rig.admin("POST", "devices/b/suspend")
        ask = {"window": [1000, 2000]}
        assert (await rig.admin("PUT", "renewal-window", ask)).json()["devices"] == 1
        assert await windows(rig, "a", "b") == [[1000, 2000], None]

    run(work)


@pytest.mark.parametrize(
    "ask",
    [
        {"window": [2000, 1000]},
        {"window": [1000]},
        {"window": "now"},
        {"window": [1000, 2000.5]},
        {"window": [0, 1]},
        {"window": [1, 10**15]},
        {"window": [1000, 2000], "device_ids": "a"},
        {"window": [1000, 2000], "device_ids": ["a", 1]},
    ],
    ids=str,
)
def test_a_window_that_makes_no_sense_is_refused(run: Run, ask: dict[str, object]) -> None:
    async def work(rig: Rig) -> None:
        assert slug_of(await rig.admin("PUT", "renewal-window", ask)) == "bad-request"
        assert await windows(rig, "a") == [None]

    run(work)


def test_an_unknown_device_among_them_changes_none(run: Run) -> None:
    async def work(rig: Rig) -> None:
        ask = {"window": [1000, 2000], "device_ids": ["a", "z"]}
        assert slug_of(await rig.admin("PUT", "renewal-window", ask)) == "not-found"
        assert await windows(rig, "a") == [None]

    run(work)


def test_another_devices_path_is_refused(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        assert await send(rig, leaf, ROW, device_id="b") == (403, "not-your-path")
        async with rig.client("api", leaf) as client:
            assert slug_of(await client.get("/v1/devices/b/config")) == "not-your-path"
        assert (await rig.admin("GET", "devices/b/telemetry")).json() == {"rows": []}

    run(work)


def test_a_refused_request_does_not_confirm_a_new_leaf(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled(use=False)
        assert await send(rig, leaf, ROW, device_id="b") == (403, "not-your-path")
        device = (await rig.admin("GET", "devices/a")).json()
        assert [c["state"] for c in device["certificates"]] == ["pending"]

    run(work)


def test_a_strange_or_missing_certificate_is_refused(
    run: Run, authorities: dict[str, Authority]
) -> None:
    async def work(rig: Rig) -> None:
        assert slug_of(await rig.ping(None)) == "no-certificate"
        assert slug_of(await rig.ping(authorities["root"].certificate)) == "unknown-certificate"

    run(work)


def test_the_factory_identity_is_refused_at_the_api(run: Run) -> None:
    async def work(rig: Rig) -> None:
        identity = await rig.idevid(Requester.new())
        assert slug_of(await rig.ping(identity)) == "wrong-certificate-kind"

    run(work)


def test_an_expired_leaf_is_refused_on_an_open_connection(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        rig.clock.now += 3601
        assert slug_of(await rig.ping(leaf)) == "certificate-expired"

    run(work)


def test_the_old_leaf_is_good_for_the_overlap_and_no_longer(run: Run) -> None:
    async def work(rig: Rig) -> None:
        old = await rig.enrolled()
        answer = await rig.enrol(Requester.new(), certificate=old, operation="simplereenroll")
        new = certificate_of(answer)
        assert (await rig.ping(old)).status_code == 200
        assert (await rig.ping(new)).status_code == 200
        rig.clock.now += 1.9
        assert (await rig.ping(old)).status_code == 200
        rig.clock.now += 0.2
        assert slug_of(await rig.ping(old)) == "certificate-superseded"
        assert (await rig.ping(new)).status_code == 200

    run(work)


def test_a_refused_device_learns_nothing_about_paths(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        async with rig.client("api", leaf) as client:
            assert slug_of(await client.get("/v1/nothing")) == "not-found"
            assert slug_of(await client.get("/v1/ping/")) == "not-found"
            assert slug_of(await client.post("/v1/ping")) == "method-not-allowed"
            await rig.admin("POST", "devices/a/revoke")
            assert slug_of(await client.get("/v1/nothing")) == "device-revoked"

    run(work)


@pytest.mark.parametrize(
    ("verb", "slug"), [("suspend", "device-suspended"), ("revoke", "device-revoked")]
)
def test_stopping_a_device_refuses_it_and_closes_its_connections(
    run: Run, verb: str, slug: str
) -> None:
    async def work(rig: Rig) -> None:
        leaf, other = await rig.enrolled("a"), await rig.enrolled("b")
        answer = (await rig.admin("POST", f"devices/a/{verb}")).json()
        assert answer["closed_connections"] == 1
        assert rig.closed == ["a"]
        assert slug_of(await rig.ping(leaf)) == slug
        assert (await rig.ping(other)).status_code == 200

    run(work)


def test_a_resumed_device_is_served_again(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        await rig.admin("POST", "devices/a/suspend")
        assert (await rig.admin("POST", "devices/a/resume")).json() == {
            "device_id": "a",
            "state": "active",
            "closed_connections": 0,
        }
        assert (await rig.ping(leaf)).status_code == 200

    run(work)


def test_every_request_is_logged_with_its_reason(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled()
        await rig.ping(leaf)
        await rig.admin("POST", "devices/a/revoke")
        await rig.ping(leaf)
        pings = [e for e in rig.log if e.get("path") == "/v1/ping"]
        assert [(e["status"], e.get("slug"), e["device_id"]) for e in pings[-2:]] == [
            (200, None, "a"),
            (403, "device-revoked", "a"),
        ]
        assert len({e["certificate"] for e in pings}) == 1

    run(work)


def test_the_admin_socket_answers_its_owner_only(run: Run) -> None:
    async def work(rig: Rig) -> None:
        for credentials in (None, (1, 12345, 12345)):
            stranger = Peer("admin", unix_credentials=credentials)
            async with rig.client_of(stranger) as client:
                assert (await client.get("/admin/v1/devices")).status_code == 401

    run(work)


@pytest.mark.parametrize(
    ("method", "path", "body", "slug"),
    [
        ("POST", "devices", {"device_id": "A"}, "bad-request"),
        ("POST", "devices", {"device_id": 7}, "bad-request"),
        ("POST", "devices", {"device_id": "c", "hardware_id": "\n"}, "bad-request"),
        ("POST", "devices", {"device_id": "a"}, "already-exists"),
        ("PUT", "devices/a/hardware", {"hardware_id": None}, "bad-request"),
        ("PUT", "devices/c/hardware", {"hardware_id": "1"}, "not-found"),
        ("GET", "devices/c", None, "not-found"),
        ("POST", "devices/c/revoke", None, "not-found"),
        ("POST", "devices/c/tokens", {"lifetime_s": 1}, "not-found"),
        ("POST", "devices/a/tokens", {"lifetime_s": 0}, "bad-request"),
        ("POST", "devices/a/tokens", {"lifetime_s": True}, "bad-request"),
        ("POST", "devices/a/tokens", {"lifetime_s": 1e12}, "bad-request"),
        ("POST", "devices/a/idevid", {"csr": "%"}, "csr-malformed"),
        ("POST", "devices/a/idevid", {}, "csr-malformed"),
        ("GET", "devices/a/telemetry?after=x", None, "bad-request"),
        ("GET", "devices/c/telemetry", None, "not-found"),
    ],
)
def test_what_makes_no_sense_to_the_admin_interface_is_refused(
    run: Run, method: str, path: str, body: object, slug: str
) -> None:
    async def work(rig: Rig) -> None:
        assert slug_of(await rig.admin(method, path, body)) == slug

    run(work)


def test_a_hardware_id_is_bound_once_and_then_in_every_certificate(run: Run) -> None:
    async def work(rig: Rig) -> None:
        bare = await rig.enrolled()
        for _ in range(2):  # provisioning may run again
            bound = await rig.admin("PUT", "devices/a/hardware", {"hardware_id": "E661"})
            assert (bound.status_code, bound.json()["hardware_id"]) == (200, "E661")
        token = await rig.token()
        renewed = certificate_of(await rig.enrol(Requester.new(), token=token))
        for certificate in (renewed, await rig.idevid(Requester.new())):
            assert serial_numbers(certificate) == ["E661"]
        assert serial_numbers(bare) == []
        other = await rig.admin("PUT", "devices/a/hardware", {"hardware_id": "E662"})
        assert (other.status_code, slug_of(other)) == (409, "other-hardware")
        events = [r["event"] for r in (await rig.admin("GET", "audit?device=a")).json()["rows"]]
        assert events.count("hardware-bound") == 1

    run(work)


def serial_numbers(certificate: x509.Certificate) -> list[str | bytes]:
    """Return the subject's serialNumber attributes."""
    found = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    return [attribute.value for attribute in found]


def test_tokens_are_shown_once_and_never_again(run: Run) -> None:
    async def work(rig: Rig) -> None:
        token = await rig.token()
        shown = await rig.admin("GET", "devices/a")
        assert token not in shown.text
        assert len(shown.json()["tokens"]) == 1

    run(work)
