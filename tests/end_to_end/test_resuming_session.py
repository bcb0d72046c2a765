"""The resumption example: an enrolled board at the gateway's `api-resume`, and elsewhere.

On the emulated Cortex-M3 too, whose TLS goes through lwIP; there what matters most.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from firmware_rig import BOARDS, Rig, make_rig
from provision_support import running_gateway

from handfast.boards.firmware_options import ALL
from handfast.boards.virtual import boards_at
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess, as_boards_reach
from handfast.resources import firmware_dir

RESUMING = ("session-resumption",)
_SCRIPT = """
import sys
sys.path.append('/examples')
import resumption
from resumption import main
import mtls
import machine
machine.RTC().datetime(NOW)
store = mtls.Store()
from mtls.net import Network
Network(store).up()
def call(session):
    answer = session.get('/v1/ping')
    print(answer.status_code, resumption.resumed, answer.json().get('type', '').split(':')[-1])
    session.close()
"""
# No less: what the board took for its floor must be past.
_AFTER_THE_FLOOR_S = 600
WITHIN_S = 120.0  # of an emulator on a busy machine
EMULATED_TOO = pytest.mark.parametrize("profile", BOARDS, indirect=True)
_names = (f"resuming-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def profile(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", BOARDS[0]))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, profile: str) -> Iterator[GatewayProcess]:
    options = GatewayOptions(resume_port=0, boards_at=boards_at(profile))
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


def script() -> str:
    """Return the beginning of what a board is told, with the time as it is when it is called."""
    now = time.gmtime(time.time() + _AFTER_THE_FLOOR_S)
    return _SCRIPT.replace("NOW", repr((*now[:3], 0, *now[3:6], 0)))


def url_of(gateway: GatewayProcess, listener: str) -> str:
    """Return a listener's URL as boards reach it."""
    return as_boards_reach(gateway.urls[listener], gateway.boards_at)


MakeRig = Callable[[tuple[str, ...]], Rig]


@pytest.fixture
def enrolled(gateway: GatewayProcess, profile: str, tmp_path: Path) -> Iterator[MakeRig]:
    """Makes an enrolled board with the example on it."""
    rigs = []

    def make(options: tuple[str, ...]) -> Rig:
        folder = tmp_path / "board"
        rig = make_rig(folder, next(_names), gateway.admin, profile, options=options)
        rigs.append(rig)
        rig.provision()
        rig.start()
        rig.event("telemetry", timeout_s=WITHIN_S)
        rig.stop()
        example = firmware_dir() / "examples" / "resumption.py"
        rig.push({"/examples/resumption.py": example.read_bytes()})
        return rig

    yield make
    for rig in rigs:
        rig.stop()
        rig.board.close()


# TLS 1.3 with it: the listener goes no further than 1.2, where such a build offers RSASSA-PSS.
@pytest.mark.parametrize("options", [RESUMING, ALL], ids=["alone", "with-tls13"])
def test_board_resumes_its_session_at_the_listener_for_it_and_at_no_other(
    gateway: GatewayProcess, enrolled: MakeRig, options: tuple[str, ...]
) -> None:
    rig = enrolled(options)
    resume, api = url_of(gateway, "api-resume"), url_of(gateway, "api")
    assert rig.repl(f"{script()}main(store, {resume!r})").split() == ["False", "True", "True"]
    assert rig.repl(f"{script()}main(store, {api!r})").split() == ["False"] * 3


@EMULATED_TOO
def test_board_that_is_revoked_is_refused_in_the_session_that_it_resumes(
    gateway: GatewayProcess, enrolled: MakeRig
) -> None:
    """One boot and one session, begun when the board was still let in: no handshake is full again.

    The board keeps sessions in its heap, so a power cycle between would begin another.
    """
    rig = enrolled(RESUMING)
    url = url_of(gateway, "api-resume")
    with rig.prompt() as run:
        run(f"{script()}session = mtls.Session({url!r}, store)\n")
        assert run("call(session)") == "200 False \n"
        assert run("call(session)") == "200 True \n"
        gateway.admin.suspend(rig.device_id)
        assert run("call(session)") == "403 True device-suspended\n"
        gateway.admin.resume(rig.device_id)
        assert run("call(session)") == "200 True \n"
        gateway.admin.revoke(rig.device_id)
        assert run("call(session)") == "403 True device-revoked\n"


def test_session_is_given_up_when_what_it_was_verified_by_changes(
    gateway: GatewayProcess, enrolled: MakeRig
) -> None:
    rig = enrolled(RESUMING)
    said = rig.repl(
        f"{script()}session = mtls.Session({gateway.urls['api-resume']!r}, store)\n"
        "call(session)\ncall(session)\n"
        "anchors = store.anchors\n"
        "store.anchors = lambda: 2 * list(anchors())\n"
        "call(session)\ncall(session)\n"
        "for name, (bound, began, kept) in list(resumption._kept.items()):\n"
        "    resumption._kept[name] = (bound, began - 3600_000, kept)\n"
        "call(session)\ncall(session)\n"
        "resumption.forget()\ncall(session)\n"
    )
    assert [line.split()[1] for line in said.splitlines()] == [
        *("False", "True"),
        *("False", "True"),
        *("False", "True"),
        "False",
    ]


def test_stock_firmware_makes_full_handshakes_by_the_same_example(
    gateway: GatewayProcess, enrolled: MakeRig
) -> None:
    rig = enrolled(())
    url = gateway.urls["api-resume"]
    # Its mbedTLS has no extended master secret, without which that listener serves nobody.
    said = rig.repl(
        f"{script()}try:\n    main(store, {url!r})\nexcept mtls.MTLSError as error:\n"
        f"    print(type(error).__name__)\nmain(store, {gateway.urls['api']!r}, 2)\n"
    )
    assert said.split()[-2:] == ["False", "False"]
    assert said.split()[0] in ("Refused", "Unreachable")
