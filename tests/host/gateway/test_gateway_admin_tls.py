"""Administration from other machines: mutual TLS with a certificate of the admin CA."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from gateway_kit import Requester
from gateway_live import PASSPHRASE, Live, copy_of
from gateway_rig import open_rig, slug_of

from handfast.admin_client import AdminClient, RemoteGateway
from handfast.errors import Unreachable, UsageError
from handfast.lab.gateway_process import GatewayOptions
from handfast.pki.authorities import Authority
from handfast.pki.issue import issue_admin_leaf
from handfast.state import StateDir


@pytest.fixture(scope="module")
def live(ca_folder: StateDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    state = copy_of(ca_folder, tmp_path_factory.mktemp("gateway"))
    with Live(state, GatewayOptions(admin_port=0), tmp_path_factory.mktemp("ids")) as gateway:
        yield gateway


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handfast", *map(str, arguments)],
        env={**os.environ, "HANDFAST_PASSPHRASE": PASSPHRASE.decode(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def credential(live: Live) -> Path:
    path = live.folder / "ada.pem"
    made = run("ca", "issue-admin", "Ada", "--out", path, "--dir", live.state.root)
    assert made.returncode == 0, made.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    return path


def admin_leaf(admin: Authority, now: datetime) -> x509.Certificate:
    key = Requester.new().key.public_key()
    return issue_admin_leaf(admin, name="Ada", public_key=key, lifetime_s=600, now=now)


def test_an_administrator_revokes_a_device_from_another_machine(
    live: Live, credential: Path
) -> None:
    identity = live.enrolled("remote")
    assert live.ping(identity).status_code == 200
    remote = AdminClient(RemoteGateway(live.urls["admin-tls"], credential))
    assert remote.revoke("remote")["state"] == "revoked"
    assert live.ping(identity).status_code == 403
    line = live.logged(event="request", listener="admin-tls", status=200)
    assert line["administrator"] == "CN=Ada"


def test_the_command_line_reaches_it_by_options_or_environment(
    live: Live, credential: Path, tmp_path: Path
) -> None:
    url = live.urls["admin-tls"]
    added = run("device", "add", "by-url", "--url", url, "--admin-cert", credential)
    assert added.returncode == 0, added.stderr
    there = {"HANDFAST_ADMIN_URL": url, "HANDFAST_ADMIN_CERT": str(credential)}
    assert "by-url" in run("device", "list", "--dir", tmp_path, **there).stdout
    assert run("device", "list", "--url", url).returncode == UsageError.exit_code


def test_nobody_else_gets_through_the_handshake(live: Live) -> None:
    device = live.enrolled("curious")
    for identity in (None, device, live.factory_identity("curious")):
        with live.client("admin-tls", identity) as client, pytest.raises(httpx.TransportError):
            client.get("/admin/v1/devices")


def test_what_is_no_credential_is_said_to_be_none(live: Live, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(UsageError, match="issue-admin"):
        AdminClient(RemoteGateway(live.urls["admin-tls"], nonsense)).devices()
    with pytest.raises(UsageError, match="https"):
        AdminClient(RemoteGateway("http://localhost:1", nonsense)).devices()


def test_a_gateway_that_is_not_there_is_unreachable(credential: Path) -> None:
    with pytest.raises(Unreachable, match="--admin-port"):
        AdminClient(RemoteGateway("https://localhost:1", credential)).devices()


def test_without_the_option_there_is_no_such_listener(ca_folder: StateDir, tmp_path: Path) -> None:
    state = copy_of(ca_folder, tmp_path / "state")
    with Live(state, GatewayOptions(), tmp_path) as gateway:
        assert "admin-tls" not in gateway.urls


def test_an_open_connection_ends_with_its_certificate(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    async def main() -> None:
        async with open_rig(tmp_path, authorities) as rig:
            leaf = admin_leaf(authorities["admin"], datetime.now(UTC))
            async with rig.client("admin-tls", leaf) as client:
                assert (await client.get("/admin/v1/devices")).status_code == 200
                rig.clock.now += 601
                assert slug_of(await client.get("/admin/v1/devices")) == "certificate-expired"
                rig.clock.now -= 601 + 120
                early = await client.get("/admin/v1/devices")
                assert slug_of(early) == "certificate-not-yet-valid"
            async with rig.client("admin-tls") as client:
                assert slug_of(await client.get("/admin/v1/devices")) == "no-certificate"

    asyncio.run(main())


def test_an_administrators_certificate_lives_for_a_day_at_most(
    authorities: dict[str, Authority],
) -> None:
    now, key = datetime.now(UTC), Requester.new().key.public_key()
    with pytest.raises(UsageError, match="lives at"):
        issue_admin_leaf(
            authorities["admin"],
            name="Ada",
            public_key=key,
            lifetime_s=int(timedelta(days=1).total_seconds()) + 1,
            now=now,
        )
