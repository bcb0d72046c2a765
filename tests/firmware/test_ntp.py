"""One NTP question: what counts as its answer."""

import socket
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls import ntp
from mtls.errors import MTLSError, ProtocolError, Unreachable
from mtls.utc import BUILD_TIME

NONCE = bytes(range(8))
UNIX = 1795492904
SINCE_1900 = 2208988800


def answer(nonce=NONCE, *, leap=0, version=4, mode=4, stratum=2, unix=UNIX):
    seconds = (unix + SINCE_1900) % 2**32
    head = bytes([leap << 6 | version << 3 | mode, stratum]) + bytes(22)
    return head + nonce + bytes(8) + seconds.to_bytes(4, "big") + b"\x80\x00\x00\x00"


@given(st.integers(BUILD_TIME, BUILD_TIME + 2**32 - 1).filter(lambda t: (t + SINCE_1900) % 2**32))
def test_time_is_read_in_every_era(unix):
    assert ntp.parse(answer(unix=unix), NONCE) == unix


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": bytes(8)},
        {"leap": 3},
        {"version": 2},
        {"mode": 3},
        {"mode": 5},
        {"stratum": 0},
        {"stratum": 16},
        {"unix": -SINCE_1900},
    ],
    ids=str,
)
def test_answer_with_one_rule_broken_is_refused(changes):
    with pytest.raises(ProtocolError):
        ntp.parse(answer(**changes), NONCE)


def test_short_answer_is_refused():
    for size in range(48):
        with pytest.raises(ProtocolError):
            ntp.parse(answer()[:size], NONCE)


@given(st.binary(max_size=80))
def test_noise_raises_nothing_but_our_errors(noise):
    try:
        ntp.parse(noise, noise[24:32])
    except MTLSError:
        return


def test_question_is_a_client_packet_with_a_random_timestamp():
    question = ntp.request(NONCE)
    assert len(question) == 48
    assert question[0] == 0x23
    assert question[1:40] == bytes(39)
    assert question[40:] == NONCE


@contextmanager
def ntp_server(answers):
    """Answers one question with what each of the functions makes of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)

        def serve():
            question, peer = sock.recvfrom(100)
            for make in answers:
                sock.sendto(make(question), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        thread.join(30)


def test_server_is_asked_over_udp():
    with ntp_server([lambda question: answer(question[40:48])]) as port:
        assert ntp.query("127.0.0.1", port, 10000) == UNIX


def test_forged_answer_before_the_right_one_is_passed_over():
    forged = (lambda _: answer(bytes(8), unix=UNIX + 99), lambda _: b"", lambda _: b"noise")
    with ntp_server([*forged, lambda question: answer(question[40:48])]) as port:
        assert ntp.query("127.0.0.1", port, 10000) == UNIX


def test_unsynchronised_server_is_refused():
    with (
        ntp_server([lambda question: answer(question[40:48], stratum=0)]) as port,
        pytest.raises(ProtocolError),
    ):
        ntp.query("127.0.0.1", port, 10000)


def test_silent_server_is_unreachable():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            ntp.query("127.0.0.1", sock.getsockname()[1], 50)


def test_endless_forgeries_do_not_outlast_the_deadline():
    enough = threading.Event()

    def forgeries():
        while not enough.is_set():
            yield lambda _: answer(bytes(8))

    with ntp_server(forgeries()) as port:
        with pytest.raises(Unreachable):
            ntp.query("127.0.0.1", port, 200)
        enough.set()


def test_name_that_does_not_resolve_is_unreachable():
    with pytest.raises(Unreachable):
        ntp.query("no-such-host.invalid", 123, 1000)


def test_board_passes_forgeries_over_and_takes_the_answer(run_device):
    forged = (lambda _: answer(bytes(8), unix=UNIX + 99), lambda _: b"noise")
    with ntp_server([*forged, lambda question: answer(question[40:48])]) as port:
        assert run_device("ntp_question.py", str(port), "10000") == [str(UNIX)]


def test_board_waits_for_a_silent_server_no_longer_than_it_was_told(run_device):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert run_device("ntp_question.py", str(port), "50") == ["Unreachable"]
