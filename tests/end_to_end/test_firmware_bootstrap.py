"""A board that was given the root's fingerprint instead of certificates, at the real gateway."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, make_rig

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

PASSPHRASE = b"for tests only"
_names = (f"stranger-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("gateway"))
    create_authorities(state, PASSPHRASE)
    return state


@pytest.fixture(scope="module")
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    with GatewayProcess(state, PASSPHRASE, GatewayOptions()) as gateway:
        yield gateway


@pytest.fixture(params=SIMULATED)
def rig(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    with make_rig(tmp_path / "board", next(_names), gateway.admin, request.param) as rig:
        yield rig


def without_anchors(sha256: str) -> str:
    """Return code for the board that leaves it a fingerprint in place of its certificates."""
    return (
        "import json, os\nfor n in os.listdir('/mtls/anchor'): os.remove('/mtls/anchor/' + n)\n"
        "os.rmdir('/mtls/anchor')\n"
        "with open('/mtls/config.json') as f: c = json.load(f)\n"
        f"c['root_sha256'] = {sha256!r}\n"
        "with open('/mtls/config.json', 'w') as f: json.dump(c, f)"
    )


def test_a_board_with_the_roots_fingerprint_enrols_and_keeps_the_anchors(
    rig: Rig, state: StateDir
) -> None:
    root, server = (state.ca_certificate(name).read_bytes() for name in ("root", "server"))
    rig.provision(code=without_anchors(hashlib.sha256(root).hexdigest().upper()))
    rig.start()
    assert rig.event("clock").fields["source"] == "tsa"
    assert rig.event("enrolled").fields["by"] == "token"
    rig.event("telemetry")
    assert not rig.console.events("error")
    rig.stop()
    printed = rig.repl(
        "import binascii, hashlib, os\nfor n in sorted(os.listdir('/mtls/anchor')):\n"
        " with open('/mtls/anchor/' + n, 'rb') as f:\n"
        "  print(n, binascii.hexlify(hashlib.sha256(f.read()).digest()).decode())"
    )
    expected = []
    for kind, der in (("root", root), ("tls", server)):
        sha256 = hashlib.sha256(der).hexdigest()
        expected.append(f"{kind}-{sha256[:16]}.der {sha256}")
    assert printed.splitlines() == expected


def test_a_board_with_another_roots_fingerprint_trusts_nobody(rig: Rig) -> None:
    rig.provision(code=without_anchors("00" * 32))
    rig.start()
    error = rig.event("error")
    assert error.fields["kind"] == "Untrusted"
    assert "root_sha256" in error.fields["detail"]
    assert not rig.console.events("clock")
    leaves = [c for c in rig.gateway.device(rig.device_id)["certificates"] if c["kind"] == "ldevid"]
    assert leaves == []


def test_a_board_with_neither_says_what_to_do(rig: Rig) -> None:
    rig.provision(code=without_anchors(""))
    rig.start()
    assert "provision this board" in rig.event("error", kind="ConfigError").fields["detail"]
