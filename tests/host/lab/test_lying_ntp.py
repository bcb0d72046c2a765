"""The lying NTP server's answers are what the boards' own client takes for a time."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from handfast.lab.lying_ntp import LyingNtpServer, ntp_answer
from handfast.resources import firmware_dir

Y2099 = 4_070_908_800
Y1970 = 0
ERA_S = 2**32
NOW = 1_795_492_904


@pytest.fixture
def ntp(monkeypatch: pytest.MonkeyPatch):
    """The device's own module."""
    model = Path(__file__).parents[2] / "firmware" / "micropython_model"
    monkeypatch.setattr(sys, "path", [str(firmware_dir()), str(model), *sys.path])
    from mtls import ntp

    return ntp


@pytest.mark.parametrize("unix", [Y2099, NOW, 2_085_978_495, 2_085_978_497])
def test_a_board_reads_the_time_that_is_told_across_the_wrap_of_2036(ntp, unix: int) -> None:
    with LyingNtpServer(unix) as server:
        assert ntp.query("127.0.0.1", server.port, 20_000) == unix
        assert server.told == 1


def test_a_board_takes_1970_for_the_same_second_one_era_later(ntp) -> None:
    """The packet cannot say which of the two is meant, and no board is as old as 1970."""
    with LyingNtpServer(Y1970) as server:
        assert ntp.query("127.0.0.1", server.port, 20_000) == Y1970 + ERA_S


def test_the_lie_may_change(ntp) -> None:
    with LyingNtpServer(Y2099) as server:
        server.says = NOW
        assert ntp.query("127.0.0.1", server.port, 20_000) == NOW


def test_what_is_no_question_is_passed_over(ntp) -> None:
    with (
        LyingNtpServer(NOW) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(20)
        client.connect(("127.0.0.1", server.port))
        question = ntp.request(b"12345678")
        for noise in (b"", question[:47], ntp_answer(question, NOW)):
            client.send(noise)
        client.send(question)
        assert ntp.parse(client.recv(128), b"12345678") == NOW
        assert server.told == 1


def test_its_end_frees_the_port() -> None:
    with LyingNtpServer(NOW) as server:
        port = server.port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))
