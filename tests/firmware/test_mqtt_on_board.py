"""The MQTT example on MicroPython against Debian's mosquitto, which asks for a certificate."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from device_interpreter import run_script
from device_pki import Plan, rsa_key
from hostile_peer import hold_port, wait_for
from mtls.custody import pack_identity
from test_client_on_board import HOUR, NOW, server_ca, server_context

from handfast.boards.sources import fetch, find_source
from handfast.resources import firmware_dir

PINNED = Path(__file__).with_name("mosquitto.toml")
PACKAGES = {
    "mosquitto": "2.0.11-1.2+deb12u2",
    "libcjson1": "1.7.15-1+deb12u4",
    "libdlt2": "2.18.8-6",
    "libwrap0": "7.6.q-32",
    "libwebsockets17": "4.1.6-3",
}

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="mosquitto is pinned for amd64 only"
)


def authority(name: str, issuer: str) -> bytes:
    """Return a CA's certificate as it stands in a file of those that are trusted."""
    plan = Plan(
        subject=name,
        key=rsa_key(name),
        issuer=issuer,
        issuer_key=rsa_key(issuer),
        ca=True,
        not_before=NOW - HOUR,
        not_after=NOW + HOUR,
    )
    return plan.make().public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosquitto")
    for name, version in PACKAGES.items():
        package = fetch(find_source(name, version, file=PINNED))
        subprocess.run(["dpkg", "-x", package, folder], check=True, timeout=60)
    return folder


@pytest.fixture
def broker(unpacked: Path, tmp_path: Path) -> Iterator[int]:
    holder = hold_port()
    port = holder.getsockname()[1]
    server_context(tmp_path)  # leaves server.pem: key and certificate
    # As examples/mqtt.py says: boards send their leaf alone, and OpenSSL wants a path to the root.
    trusted = authority("device", "root") + authority("root", "root")
    (tmp_path / "device-ca-and-root.pem").write_bytes(trusted)
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\ncafile {tmp_path}/device-ca-and-root.pem\n"
        f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.pem\n"
        f"require_certificate true\nuse_identity_as_username true\nuser {getpass.getuser()}\n"
    )
    libraries = ":".join(str(one) for one in unpacked.glob("**/*-linux-gnu"))
    command = [unpacked / "usr" / "sbin" / "mosquitto", "-c", settings]
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    with holder, subprocess.Popen(command, env=environment) as process:
        try:
            wait_for(port, process)
            yield port
        finally:
            process.terminate()


@pytest.fixture
def round_trip(micropython: Path, tmp_path: Path) -> Callable[[int], list[str]]:
    root = tmp_path / "mtls"
    (root / "anchor").mkdir(parents=True)
    (root / "anchor" / "tls-0.der").write_bytes(server_ca().make().public_bytes(Encoding.DER))
    config = {"schema": 1, "device_id": "board-7", "trust_domain": "example.test"}
    config |= {"api_url": "https://127.0.0.1", "enrol_url": "https://127.0.0.1"}
    (root / "config.json").write_text(json.dumps(config))

    def run(port: int) -> list[str]:
        folders = (str(firmware_dir() / "examples"), str(Path(__file__).parent / "umqtt_model"))
        arguments = ("mqtt_round_trip.py", str(root), str(port), *folders)
        return run_script(micropython, *arguments, cwd=tmp_path)

    return run


def enrol(root: Path, ca: str) -> None:
    """Give the board a leaf of that CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = Plan(
        subject="board-7",
        key=key,
        issuer=ca,
        issuer_key=rsa_key(ca),
        not_before=NOW - HOUR,
        not_after=NOW + HOUR,
    ).make()
    key_der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (root / "slot-a").write_bytes(pack_identity(key_der, leaf.public_bytes(Encoding.DER)))
    (root / "current").write_bytes(b"a\n")


def test_a_board_publishes_with_its_own_certificate(
    round_trip: Callable[[int], list[str]], broker: int, tmp_path: Path
) -> None:
    enrol(tmp_path / "mtls", "device")
    assert round_trip(broker) == ["devices/board-7/telemetry 42"]


@pytest.mark.parametrize("ca", [None, "stranger"])
def test_a_board_without_a_certificate_of_the_device_ca_is_not_let_in(
    round_trip: Callable[[int], list[str]], broker: int, tmp_path: Path, ca: str | None
) -> None:
    if ca:
        enrol(tmp_path / "mtls", ca)
    assert round_trip(broker) == ["OSError"]


def test_a_broker_of_another_ca_is_sent_nothing(
    round_trip: Callable[[int], list[str]], broker: int, tmp_path: Path
) -> None:
    enrol(tmp_path / "mtls", "device")
    other = server_ca("other").make().public_bytes(Encoding.DER)
    (tmp_path / "mtls" / "anchor" / "tls-0.der").write_bytes(other)
    assert round_trip(broker) == ["ValueError"]
