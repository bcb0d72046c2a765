"""The gateway as users run it: a process of its own, real TLS, real files."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from gateway_kit import Requester
from gateway_live import DEADLINE_S, PASSPHRASE, Identity, Live, copy_of, wait_for
from gateway_rig import slug_of

from handfast.errors import EnvironmentProblem, HandfastError, Unreachable
from handfast.gateway.server.limits import Limits
from handfast.lab.gateway_process import GatewayOptions
from handfast.pki.authorities import Authority
from handfast.state import StateDir


@pytest.fixture(scope="module")
def live(ca_folder: StateDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One gateway for the tests that do not stop it; each test has devices of its own."""
    state = copy_of(ca_folder, tmp_path_factory.mktemp("gateway"))
    folder = tmp_path_factory.mktemp("identities")
    with Live(state, GatewayOptions(overlap_s=1, device_lifetime_s=600), folder) as gateway:
        yield gateway


def own(ca_folder: StateDir, tmp_path: Path, **options: int) -> Live:
    """Return a gateway of a test's own, not started yet."""
    state_root, folder = tmp_path / "state", tmp_path / "identities"
    state_root.mkdir()
    folder.mkdir()
    return Live(copy_of(ca_folder, state_root), GatewayOptions(**options), folder)


def silent_peer(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def test_a_device_enrols_by_token_calls_renews_and_switches(live: Live) -> None:
    first = live.enrolled("renewing")
    assert live.ping(first).json()["device_id"] == "renewing"
    second = live.re_enrolled("renewing", first)
    states = {c["serial"]: c["state"] for c in live.admin.device("renewing")["certificates"]}
    assert states[f"{first.certificate.serial_number:x}"] == "current"
    assert states[f"{second.certificate.serial_number:x}"] == "pending"
    assert live.ping(second).status_code == 200
    refused = wait_for(lambda: r if (r := live.ping(first)).status_code != 200 else None)
    assert slug_of(refused) == "certificate-superseded"
    assert live.ping(second).status_code == 200


def test_a_device_enrols_by_its_factory_identity_which_the_api_refuses(live: Live) -> None:
    live.admin.add_device("factory-made")
    assert live.admin.bind_hardware("factory-made", "A1:B2")["hardware_id"] == "A1:B2"
    identity = live.factory_identity("factory-made")
    assert "2.5.4.5=A1:B2" in identity.certificate.subject.rfc4514_string()
    key = Requester.new()
    leaf = live.identity(key, live.enrol("factory-made", key, identity=identity))
    assert live.ping(leaf).status_code == 200
    # The api listener does not even trust the factory CA.
    with pytest.raises(httpx.TransportError):
        live.ping(identity)
    line = live.logged(event="tls_refused", listener="api", reason="untrusted-issuer")
    assert identity.certificate.fingerprint(hashes.SHA256()).hex() in json.dumps(line)


@pytest.mark.parametrize("anchor", ["root", "server"])
def test_the_gateway_is_trusted_from_the_root_and_from_the_server_ca(
    live: Live, anchor: str
) -> None:
    with live.client("enrol", anchor=anchor) as client:
        assert client.get("/.well-known/est/cacerts").status_code == 200


def foreign(device_id: str, ours: Authority, tmp_path: Path) -> Identity:
    """Return a leaf with our CA's name and a device's own names, signed by somebody else."""
    now, key = datetime.now(UTC), Requester.new()
    other_ca = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device_id)])
    uri = x509.UniformResourceIdentifier(f"spiffe://example.test/device/{device_id}")
    builder = x509.CertificateBuilder().subject_name(name)
    builder = builder.issuer_name(ours.certificate.subject)
    builder = builder.public_key(key.key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(usage, critical=False).sign(other_ca, hashes.SHA256())
    return Identity(key, certificate, tmp_path)


def test_a_leaf_of_another_ca_with_the_same_names_is_refused_and_the_log_says_why(
    live: Live, authorities: dict[str, Authority], tmp_path: Path
) -> None:
    live.enrolled("copied")
    intruder = foreign("copied", authorities["device"], tmp_path)
    digest = intruder.certificate.fingerprint(hashes.SHA256()).hex()
    with pytest.raises(httpx.TransportError):
        live.ping(intruder)

    def refusal() -> dict[str, object] | None:
        lines = (x for x in live.log() if x["event"] == "tls_refused" and digest in str(x))
        return next(lines, None)

    assert wait_for(refusal)["reason"] in ("untrusted-issuer", "bad-signature")


def test_no_certificate_is_refused_and_the_log_says_so(live: Live) -> None:
    with live.client("api") as client, pytest.raises(httpx.TransportError):
        client.get("/v1/ping")
    live.logged(event="tls_refused", listener="api", reason="no-certificate")


def test_revoking_closes_an_open_connection_and_the_next_one_is_refused(live: Live) -> None:
    identity = live.enrolled("revoked")
    with live.client("api", identity) as client:
        assert client.get("/v1/ping").status_code == 200
        answer = live.admin.revoke("revoked")
        assert answer["closed_connections"] == 1
        # httpx opens a new connection where the kept one was closed.
        assert slug_of(client.get("/v1/ping")) == "device-revoked"
    refused = live.enrol("revoked", Requester.new(), identity=identity, operation="simplereenroll")
    assert slug_of(refused) == "device-revoked"


def test_revoking_closes_connections_that_have_made_no_request(live: Live) -> None:
    identity = live.enrolled("silent")
    context = live.client("api", identity)._transport._pool._ssl_context
    port = httpx.URL(live.urls["api"]).port
    assert port is not None
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as quiet,
    ):
        # In TLS 1.3 the client is done first: wait until the gateway has the connection, too.
        closed = wait_for(lambda: live.admin.revoke("silent")["closed_connections"] or None)
        assert closed == 1
        with contextlib.suppress(OSError):  # a reset is a close, too
            assert quiet.recv(1) == b""


def test_a_suspended_device_is_refused_until_it_is_resumed(live: Live) -> None:
    identity = live.enrolled("suspended")
    assert live.ping(identity).status_code == 200
    live.admin.suspend("suspended")
    assert slug_of(live.ping(identity)) == "device-suspended"
    live.admin.resume("suspended")
    assert live.ping(identity).status_code == 200


def test_the_command_suggests_a_renewal_that_the_device_then_reads(live: Live) -> None:
    identity = live.enrolled("due")
    other = live.enrolled("not-due")

    def device_renew(*arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "handfast", "device", "renew", *arguments, "--json"]
        command += ["--dir", str(live.state.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def window_of(who: Identity, name: str) -> object:
        with live.client("api", who) as client:
            return client.get(f"/v1/devices/{name}/config").json().get("renewal_window")

    before = int(datetime.now(UTC).timestamp())
    said = device_renew("due", "--in-s", "60", "--over-s", "120")
    start, end = window_of(identity, "due")  # type: ignore[misc]
    assert said == {"window": [start, end], "devices": 1}
    assert before + 60 <= start <= int(datetime.now(UTC).timestamp()) + 60
    assert end == start + 120
    assert window_of(other, "not-due") is None
    assert device_renew("due", "--cancel") == {"window": None, "devices": 1}
    assert window_of(identity, "due") is None


def test_the_gateways_own_leaf_is_swapped_without_dropping_a_connection(live: Live) -> None:
    identity = live.enrolled("steady")
    before = live.admin.status()["leaf_ends"]

    def serial(client: httpx.Client) -> int:
        stream = client.get("/v1/ping").extensions["network_stream"]
        der = stream.get_extra_info("ssl_object").getpeercert(True)
        return x509.load_der_x509_certificate(der).serial_number

    with live.client("api", identity) as kept, live.client("api", identity) as fresh:
        old = serial(kept)
        assert live.admin.renew_leaf()["leaf_ends"].keys() == before.keys()
        assert serial(kept) == old
        assert serial(fresh) != old


def test_the_public_listener_gives_crl_and_ca_certificates_over_plain_http(live: Live) -> None:
    with httpx.Client(base_url=live.urls["public"]) as client:
        crl = x509.load_der_x509_crl(client.get("/crl/device.crl").content)
        device = x509.load_der_x509_certificate(client.get("/ca/device.cer").content)
    key = device.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)


def test_time_for_handshakes_gives_a_silent_peer_no_more_on_the_public_listener(
    ca_folder: StateDir, tmp_path: Path
) -> None:
    with own(ca_folder, tmp_path, handshake_s=60) as gateway:
        public, enrol = (urlsplit(gateway.urls[name]).netloc for name in ("public", "enrol"))
        with silent_peer(public) as without_tls, silent_peer(enrol) as in_a_handshake:
            without_tls.settimeout(2 * Limits().header_s)
            assert without_tls.recv(1) == b""
            in_a_handshake.setblocking(False)
            with pytest.raises(BlockingIOError):
                in_a_handshake.recv(1)


def test_secrets_are_for_the_owner_only_and_not_in_the_log(live: Live) -> None:
    live.admin.add_device("discreet")
    token = live.admin.create_token("discreet", lifetime_s=60)["token"]
    live.enrol("discreet", Requester.new(), token=token)
    live.logged(event="request", device_id="discreet")
    state = live.state
    for path in (state.gateway_log, state.gateway_lock, state.admin_socket, state.registry):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(live.state.gateway.stat().st_mode) == 0o700
    files = [p for p in live.state.gateway.rglob("*") if p.is_file()]
    assert files
    assert not any(token.encode() in p.read_bytes() for p in files)


def test_a_second_gateway_on_the_same_folder_is_refused(live: Live, tmp_path: Path) -> None:
    second = Live(live.state, GatewayOptions(), tmp_path)
    with pytest.raises(Exception, match="another gateway") as caught:
        second.start()
    assert caught.value.exit_code == EnvironmentProblem.exit_code
    assert live.admin.status()["pid"] == live.pid


def test_a_port_in_use_is_named(ca_folder: StateDir, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = own(ca_folder, tmp_path, enrol_port=port)
        with pytest.raises(
            Exception, match=f":{port} for the enrol listener is in use.*--enrol-port"
        ) as caught:
            gateway.start()
    assert caught.value.exit_code == EnvironmentProblem.exit_code
    assert not gateway.state.gateway_ready.exists()
    assert not gateway.state.admin_socket.exists()


def test_a_gateway_says_when_the_roots_key_lies_beside_it(
    live: Live, ca_folder: StateDir, tmp_path: Path
) -> None:
    line = live.logged(event="root_key_not_offline")
    assert (line["level"], line["path"]) == ("warning", str(live.state.ca_key("root")))
    with own(ca_folder, tmp_path) as gateway:
        assert gateway.state.ca_key("root").exists()
    gateway.state.ca_key("root").unlink()
    gateway.state.gateway_log.unlink()
    with gateway:
        assert gateway.admin.status()["pid"] == gateway.pid
    assert "root_key_not_offline" not in {line["event"] for line in gateway.log()}


def test_the_admin_cas_key_may_be_kept_off_the_gateways_machine(
    ca_folder: StateDir, tmp_path: Path
) -> None:
    gateway = own(ca_folder, tmp_path)
    gateway.state.ca_key("admin").unlink()
    with gateway:
        assert gateway.ping(gateway.enrolled("still-served")).status_code == 200
        url = gateway.urls["public"]
        assert httpx.get(f"{url}/crl/admin.crl", trust_env=False).status_code == 404
        assert httpx.get(f"{url}/crl/device.crl", trust_env=False).status_code == 200
    line = gateway.logged(event="ca_not_answered_for")
    assert (line["level"], line["ca"]) == ("warning", "admin")


def test_a_killed_gateway_loses_nothing_and_starts_again(
    ca_folder: StateDir, tmp_path: Path
) -> None:
    gateway = own(ca_folder, tmp_path)
    gateway.start()
    try:
        leaf = gateway.enrolled("early")
        assert gateway.ping(leaf).status_code == 200
        gateway.admin.add_device("late")
        token, key = gateway.admin.create_token("late", lifetime_s=600)["token"], Requester.new()
        first = gateway.identity(key, gateway.enrol("late", key, token=token))
        gateway.kill()
        with pytest.raises(Unreachable, match="gateway serve"):
            gateway.admin.status()
        gateway.start()
        assert gateway.ping(leaf).status_code == 200
        again = gateway.identity(key, gateway.enrol("late", key, token=token))
        assert again.certificate == first.certificate
        assert slug_of(gateway.enrol("late", Requester.new(), token=token)) == "token-used"
        assert gateway.ping(again).status_code == 200
        gateway.admin.revoke("early")
        gateway.kill()
        gateway.start()
        assert slug_of(gateway.ping(leaf)) == "device-revoked"
    finally:
        gateway.stop()


def test_a_stopped_gateway_leaves_nothing_behind(ca_folder: StateDir, tmp_path: Path) -> None:
    gateway = own(ca_folder, tmp_path)
    with gateway:
        identity = gateway.enrolled("a")
        kept = gateway.client("api", identity)
        kept.get("/v1/ping")
    kept.close()
    assert not gateway.state.gateway_ready.exists()
    assert not gateway.state.admin_socket.exists()
    assert gateway.log()[-1]["event"] == "gateway_stopped"


def test_the_admin_socket_works_below_a_very_long_path(ca_folder: StateDir, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with own(ca_folder, deep) as gateway:
        assert gateway.admin.status()["devices"]["active"] == 0


def cli(state: StateDir, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handfast", *arguments, "--dir", str(state.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_manages_devices_and_tokens(live: Live) -> None:
    state = live.state
    assert cli(state, "device", "add", "by-hand", "--hardware-id", "77").returncode == 0
    shown = json.loads(cli(state, "device", "show", "by-hand", "--json").stdout)
    assert (shown["state"], shown["hardware_id"]) == ("active", "77")
    made = cli(state, "token", "create", "by-hand", "--lifetime-s", "60")
    key = Requester.new()
    leaf = live.identity(key, live.enrol("by-hand", key, token=made.stdout.strip()))
    assert live.ping(leaf).status_code == 200
    revoked = json.loads(cli(state, "device", "revoke", "by-hand", "--json").stdout)
    assert revoked["state"] == "revoked"
    listed = json.loads(cli(state, "device", "list", "--json").stdout)["devices"]
    assert ("by-hand", "revoked") in [(d["device_id"], d["state"]) for d in listed]
    assert "by-hand" in cli(state, "device", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("device", "add", "Not A Name"), 2, "not a device_id"),
        (("device", "show", "nobody"), 2, "no device nobody"),
        (("device", "suspend", "nobody"), 2, "no device nobody"),
        (("token", "create", "nobody"), 2, "no device nobody"),
    ],
)
def test_the_command_line_ends_in_one_message_and_its_exit_code(
    live: Live, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = cli(live.state, *arguments)
    assert ended.returncode == code
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_refusals_and_silence_have_their_exit_codes(live: Live, tmp_path: Path) -> None:
    live.admin.add_device("gone")
    live.admin.revoke("gone")
    assert cli(live.state, "device", "resume", "gone").returncode == 5
    assert cli(live.state, "device", "add", "gone").returncode == 5
    nobody = cli(StateDir(tmp_path), "device", "list")
    assert nobody.returncode == 4
    assert "gateway serve" in nobody.stderr


def test_a_wrong_passphrase_is_refused(ca_folder: StateDir, tmp_path: Path) -> None:
    state = copy_of(ca_folder, tmp_path / "state")
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE + b"?")
    ended = cli(state, "gateway", "serve", "--passphrase-file", str(secret))
    assert ended.returncode == 5
    assert not state.gateway_ready.exists()


@pytest.mark.parametrize("name", ["lock", "gateway.log", "registry.sqlite3", "admin.sock"])
def test_a_state_folder_with_something_else_in_a_files_place_is_named(
    ca_folder: StateDir, tmp_path: Path, name: str
) -> None:
    gateway = own(ca_folder, tmp_path)
    in_the_way = gateway.state.gateway / name
    in_the_way.mkdir(parents=True)
    with pytest.raises(HandfastError, match=str(in_the_way)) as caught:
        gateway.start()
    assert caught.value.exit_code == EnvironmentProblem.exit_code
    assert not gateway.state.gateway_ready.exists()
    assert in_the_way.is_dir()
