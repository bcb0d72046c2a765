"""A board whose private keys are in a chip: it enrols, calls and renews by mutual TLS."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firmware_rig import (
    SIMULATED,
    Rig,
    give_long_names,
    make_rig,
    profile_and_version,
)
from provision_support import running_gateway

from handfast.boards.definition import load_board
from handfast.errors import BoardProblem
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess

TESTS = Path(__file__).parent.parent
ON_BOARD = {
    "/lib/machine.py": TESTS / "end_to_end" / "chip_machine.py",
    "/lib/atecc_model.py": TESTS / "firmware" / "atecc_model.py",
}
CHIP: dict[str, Any] = {"i2c": 0, "scl": 5, "sda": 4, "slots": {"idevid": 0, "a": 2, "b": 3}}
CALLBACK = ("secure-element",)
MODEL_KB = 48  # of heap, for what a real chip does outside it
_names = (f"chip-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=15, overlap_s=2)
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


MakeRig = Callable[..., Rig]


@pytest.fixture(params=SIMULATED)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig_with_chip(
    gateway: GatewayProcess, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeRig]:
    """Makes a board with a chip beside it; slot 0 has the permanent key that it was sold with."""
    give_long_names(monkeypatch)  # the chip's model calculates by the library's own names
    rigs = []

    def make(options: tuple[str, ...] = CALLBACK) -> Rig:
        memory = load_board(profile_and_version(profile)[0]).memory
        assert memory is not None
        rig = make_rig(
            tmp_path / "board",
            next(_names),
            gateway.admin,
            profile,
            options=options,
            heap_kb=memory.heap_kb + MODEL_KB,
        )
        rigs.append(rig)
        rig.push({path: source.read_bytes() for path, source in ON_BOARD.items()})
        return rig

    yield make
    for rig in rigs:
        rig.stop()
        rig.board.close()


# What a test finds on the board: the slot files, and the keys that are in the chip.
LOOK = """
import json, os
from binascii import hexlify
from mtls.store import Store
store = Store()
with open('/chip', 'rb') as f: chip = f.read()
secrets = [chip[at + 1:at + 33] for at in range(128, len(chip), 33)]
def spilled(name):
    with open('/mtls/' + name, 'rb') as f: data = f.read()
    return any(secret in data for secret in secrets)
names = [n for n in ('a', 'b', 'idevid') if store.identity(n)]
print(json.dumps({
    'references': {n: hexlify(store.identity(n).key_der).decode() for n in names},
    'points': {n: hexlify(store.identity(n).key().public()).decode() for n in names},
    'matches': all(store.identity(n).matches() for n in names),
    'spilled': [n for n in os.listdir('/mtls') if n != 'anchor' and spilled(n)],
    'secrets': len(set(secrets)),
    'current': store.current(),
}))
"""


def test_board_with_its_keys_in_a_chip_enrols_calls_and_renews(rig_with_chip: MakeRig) -> None:
    rig = rig_with_chip()
    rig.provision(secure_element=CHIP)
    rig.start()
    assert rig.event("enrolled").fields["by"] == "token"
    rig.event("telemetry")
    first = rig.event("renewed")
    second = rig.event("renewed", after=first.number)
    rig.event("telemetry", after=second.number)
    assert not rig.console.events("error")
    assert not rig.console.events("refused")
    rig.stop()
    found = json.loads(rig.repl(LOOK))
    assert found["references"] == {"a": "820102", "b": "820103", "idevid": "820100"}
    assert found["matches"]
    assert len(set(found["points"].values())) == found["secrets"] == 3
    assert found["spilled"] == []
    assert found["current"] == "a"


def test_a_later_provisioning_keeps_the_chip_and_its_idevid(rig_with_chip: MakeRig) -> None:
    rig = rig_with_chip()
    facts = (
        "from mtls.store import Store\nstore = Store()\n"
        "print(store.config()['secure_element'], store.identity('idevid').cert_der)"
    )
    first = rig.provision(secure_element=CHIP, code=facts)
    assert "'idevid': 0" in first
    assert rig.provision(code=facts) == first


def test_provisioning_with_a_chip_that_is_not_there_says_so(rig_with_chip: MakeRig) -> None:
    rig = rig_with_chip()
    rig.push({"/chip-fault": b"unplugged"})
    with pytest.raises(BoardProblem, match="no secure element answers at 0x60"):
        rig.provision(secure_element=CHIP)


def test_board_without_token_enrols_by_the_permanent_key_of_its_chip(
    rig_with_chip: MakeRig,
) -> None:
    rig = rig_with_chip()
    point = "from mtls.store import Store\nprint(Store().identity('idevid').key().public())"
    before = rig.provision(secure_element=CHIP, token=False, code=point)
    rig.start()
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry")
    rig.stop()
    assert rig.repl(point) == before


def test_stock_firmware_gets_a_certificate_for_the_chips_key_and_says_that_tls_cannot_use_it(
    rig_with_chip: MakeRig,
) -> None:
    rig = rig_with_chip(options=())
    rig.provision(secure_element=CHIP)
    rig.start()
    error = rig.event("error")
    assert error.fields["kind"] == "ConfigError"
    assert "MICROPY_PY_SSL_ECDSA_SIGN_ALT=1" in error.fields["detail"]
    assert not rig.console.events("enrolled")
    rig.stop()
    found = json.loads(rig.repl(LOOK))
    assert found["references"] == {"a": "820102", "idevid": "820100"}
    assert found["matches"]


def test_384_bits_of_a_sha384_suite_are_signed_by_their_first_256(
    rig_with_chip: MakeRig,
) -> None:
    rig = rig_with_chip()
    rig.provision(secure_element=CHIP)
    rig.start()
    rig.event("telemetry")
    rig.stop()
    printed = rig.repl(
        "import mtls\nmtls.preload('atecc')\nfrom mtls import atecc, tls\n"
        "client_context = tls.client_context\n"
        "def only_sha384(*how):\n context = client_context(*how)\n"
        " context.set_ciphers(('TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384',))\n return context\n"
        "tls.client_context = only_sha384\n"
        "sign, lengths = atecc.SecureElementKey.sign_digest, []\n"
        "def spy(self, digest):\n lengths.append(len(digest))\n return sign(self, digest)\n"
        "atecc.SecureElementKey.sign_digest = spy\n"
        "from mtls.clock import Clock\nfrom mtls.timesync import sync\n"
        "store = mtls.Store()\nsync(store, Clock(store))\n"
        "session = mtls.Session(store.config()['api_url'], store)\n"
        "print(session.get('/v1/ping').json()['device_id'], lengths)"
    )
    assert printed.strip() == f"{rig.device_id} [48]"


@pytest.mark.parametrize("fault", ["unplugged", "mute"])
def test_chip_that_fails_is_told_and_costs_no_identity(rig_with_chip: MakeRig, fault: str) -> None:
    rig = rig_with_chip()
    rig.provision(secure_element=CHIP)
    rig.start()
    rig.event("telemetry")
    rig.stop()
    rig.push({"/chip-fault": fault.encode()})
    rig.start()
    assert rig.event("error").fields["kind"] == "SecureElementError"
    assert not rig.console.events("telemetry")
    rig.stop()
    rig.repl("import os\nos.remove('/chip-fault')")
    rig.start()
    rig.event("telemetry")
    assert not rig.console.events("enrolled")


def replace_key(rig: Rig, slot: int) -> None:
    """As a power cut does between GenKey and the next flash write, or somebody with the chip."""
    rig.stop()
    rig.repl(f"from mtls.store import Store\nStore().chip().generate({slot})")
    rig.start()


def test_replaced_key_in_use_costs_an_enrolment(rig_with_chip: MakeRig) -> None:
    rig = rig_with_chip()
    rig.provision(secure_element=CHIP)
    rig.start()
    rig.event("telemetry")
    replace_key(rig, CHIP["slots"]["a"])
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry")


def test_replaced_key_of_the_spare_slot_costs_nothing(rig_with_chip: MakeRig) -> None:
    rig = rig_with_chip()
    rig.provision(secure_element=CHIP)
    rig.start()
    rig.event("telemetry", after=rig.event("renewed").number)
    replace_key(rig, CHIP["slots"]["a"])
    rig.event("telemetry")
    assert not rig.console.events("enrolled")
    assert not rig.console.events("recovered")
    rig.event("telemetry", after=rig.event("renewed").number)
