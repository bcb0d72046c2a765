"""A simulated board's random source: sound, stuck or replayed, for Python and mbedTLS alike."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator_support import Repl
from tls_support import SERVER_NAME, WITHIN_LIFE, Drawn, Recorder, recording

from handfast.boards.builder import build_simulator
from handfast.boards.simulator import Entropy, SimulatedBoard

PROFILES = ("sim-pico-w", "sim-esp32")
URANDOM = "import os; print(os.urandom(64).hex())"
RANDOM = "import random; print([random.getrandbits(32) for _ in range(4)])"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with recording(tmp_path) as recorder:
        yield recorder


def ask(board: SimulatedBoard, code: str) -> str:
    with Repl(board.serial_url) as repl:
        return repl.exec(code)


def first_draw(profile: str, folder: Path, entropy: Entropy, code: str = URANDOM) -> str:
    """Return what a board says that has just been switched on."""
    with SimulatedBoard(profile, directory=folder, entropy=entropy) as board:
        board.power_on()
        return ask(board, code)


# ---- Python ----


def test_every_board_replays_the_same_octets(tmp_path: Path) -> None:
    first, second = (first_draw(profile, tmp_path / profile, "replayed") for profile in PROFILES)
    assert first == second
    assert len(set(bytes.fromhex(first))) > 32  # they look well


@pytest.mark.parametrize("profile", PROFILES)
def test_the_octets_come_again_with_each_start_and_not_before(profile: str, tmp_path: Path) -> None:
    with SimulatedBoard(profile, directory=tmp_path, entropy="replayed") as board:
        board.power_on()
        first = ask(board, URANDOM)
        assert ask(board, URANDOM) != first
        board.reset()
        assert ask(board, URANDOM) == first
        board.power_cycle()
        assert ask(board, URANDOM) == first


def test_the_stream_does_not_depend_on_the_size_of_the_draws(tmp_path: Path) -> None:
    in_pieces = "import os; print((os.urandom(3) + os.urandom(20) + os.urandom(41)).hex())"
    whole = first_draw("sim-pico-w", tmp_path / "whole", "replayed")
    assert first_draw("sim-pico-w", tmp_path / "pieces", "replayed", in_pieces) == whole


@pytest.mark.parametrize("profile", PROFILES)
def test_a_stuck_source_gives_one_octet_through_resets_too(profile: str, tmp_path: Path) -> None:
    with SimulatedBoard(profile, directory=tmp_path, entropy="stuck") as board:
        board.power_on()
        first = ask(board, URANDOM)
        assert len(set(bytes.fromhex(first))) == 1
        board.reset()
        assert ask(board, URANDOM) == first
        board.power_cycle()
        assert ask(board, URANDOM) == first


@pytest.mark.parametrize("entropy", ["stuck", "replayed"])
def test_the_random_module_is_seeded_from_the_same_source(entropy: Entropy, tmp_path: Path) -> None:
    draws = {first_draw("sim-pico-w", tmp_path / name, entropy, RANDOM) for name in "ab"}
    assert len(draws) == 1


def test_a_sound_source_never_repeats(tmp_path: Path) -> None:
    for code in (URANDOM, RANDOM):
        draws = {first_draw("sim-pico-w", tmp_path / name, "host", code) for name in "ab"}
        assert len(draws) == 2


def test_a_source_that_is_changed_counts_from_the_next_power_on(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path, entropy="stuck") as board:
        board.power_on()
        stuck = ask(board, URANDOM)
        board.entropy = "host"
        assert ask(board, URANDOM) == stuck
        board.power_cycle()
        assert ask(board, URANDOM) != stuck


def test_a_source_that_there_is_not_is_refused_with_the_right_ones() -> None:
    command = [build_simulator("sim-pico-w"), "--board", "--entropy", "dice"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "host, stuck (one octet) or replayed" in done.stderr


# ---- mbedTLS, as a listener on the wire sees it ----


def handshakes(
    recorder: Recorder, profile: str, folder: Path, entropy: Entropy, how_many: int = 1
) -> list[Drawn]:
    """Return what a freshly powered board draws for its first handshakes."""
    credential = recorder.credential
    code = f"""
import socket, tls
def connect():
    c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations({credential.der()!r})
    c.load_cert_chain({credential.der()!r}, {credential.key_der()!r})
    s = socket.socket()
    s.connect(socket.getaddrinfo('127.0.0.1', {recorder.port})[0][-1])
    c.wrap_socket(s, server_hostname={SERVER_NAME!r}).close()
for _ in range({how_many}):
    connect()
"""
    before = len(recorder.handshakes)
    with SimulatedBoard(profile, directory=folder, entropy=entropy) as board:
        board.power_on(rtc=WITHIN_LIFE)
        ask(board, code)
    made = recorder.handshakes[before:]
    assert len(made) == how_many
    return made


@pytest.mark.parametrize("profile", PROFILES)
def test_with_a_replayed_source_two_boards_draw_the_same_keys(
    profile: str, recorder: Recorder, tmp_path: Path
) -> None:
    (one,), (other,) = (handshakes(recorder, profile, tmp_path / n, "replayed") for n in "ab")
    assert (one.random, one.ecdhe_key) == (other.random, other.ecdhe_key)


@pytest.mark.parametrize("profile", PROFILES)
def test_with_a_stuck_source_each_handshake_draws_the_same_keys(
    profile: str, recorder: Recorder, tmp_path: Path
) -> None:
    one, again = handshakes(recorder, profile, tmp_path / "a", "stuck", how_many=2)
    (other,) = handshakes(recorder, profile, tmp_path / "b", "stuck")
    for each in (again, other):
        assert (one.random, one.ecdhe_key) == (each.random, each.ecdhe_key)


@pytest.mark.parametrize("entropy", ["stuck", "replayed"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_bad_source_gives_a_pico_w_s_key_away_but_not_an_esp32_s(
    profile: str, entropy: Entropy, recorder: Recorder, tmp_path: Path
) -> None:
    """ESP-IDF's mbedTLS derives the nonce from key and message (RFC 6979)."""
    (one,), (other,) = (handshakes(recorder, profile, tmp_path / n, entropy) for n in "ab")
    assert (one.r == other.r) == (profile == "sim-pico-w")


@pytest.mark.parametrize("profile", PROFILES)
def test_with_a_sound_source_nothing_is_drawn_twice(
    profile: str, recorder: Recorder, tmp_path: Path
) -> None:
    one, again = handshakes(recorder, profile, tmp_path / "a", "host", how_many=2)
    (other,) = handshakes(recorder, profile, tmp_path / "b", "host")
    for part in ("random", "ecdhe_key", "r"):
        assert len({getattr(one, part), getattr(again, part), getattr(other, part)}) == 3


# ---- Timing, which firmware takes its jitter from ----


@pytest.mark.parametrize("profile", PROFILES)
def test_the_cycle_counter_counts(profile: str, tmp_path: Path) -> None:
    code = (
        "import time\nbefore = time.ticks_cpu()\ntime.sleep_ms(20)\n"
        "print(time.ticks_diff(time.ticks_cpu(), before))"
    )
    per_second = {"sim-pico-w": 1_000_000, "sim-esp32": 160_000_000}[profile]
    assert int(first_draw(profile, tmp_path, "replayed", code)) >= per_second * 0.02
