"""The MKR dialogue through every fault of a cable: nothing hangs, and it can be begun again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from enrol_kit import certify, new_key
from mkr_cable import Fault, MkrCable
from mkr_model import MkrModel
from mkr_scenario import Board
from sketch_model import SketchModel, build

from handfast.boards import mkr, mkr_lines
from handfast.boards.mkr import Mkr
from handfast.boards.serial_port import NoAnswer, SerialPort, Unplugged
from handfast.errors import BoardProblem
from handfast.pki.csr import read_csr


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sketch"))


@pytest.fixture(params=["model", "sketch"])
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    monkeypatch.setattr(mkr, "_QUICK_S", 0.15)
    monkeypatch.setattr(mkr, "_CHIP_S", 0.5)
    if request.param == "model":
        with MkrModel() as model:
            yield model
    else:
        with SketchModel(request.getfixturevalue("program")) as sketch:
            yield sketch


def enrolled(url: str, ca: dict[bytes, bytes]) -> bytes:
    """Go through a whole enrolment; like the gateway, the CA certifies a key once."""
    with Mkr.open(url) as client:
        client.hello()
        request = read_csr(client.csr())
        der = ca.setdefault(request.spki_sha256, certify(request.public_key))
        client.store(der)
        held = client.certificate()
        assert held == der
        return held


# Of an enrolment, both ways; a signature that is a little longer may take some more.
LINES = 52


def test_the_faults_below_are_at_every_line_of_an_enrolment(board: Board) -> None:
    with MkrCable(board.url) as cable:
        enrolled(cable.url, {})
        assert LINES <= len(cable.lines) <= LINES + 4


def test_a_key_is_made_in_the_chip_and_its_certificate_kept(board: Board) -> None:
    with Mkr.open(board.url) as client:
        fresh = client.hello()
        assert (fresh.chip, fresh.locked, fresh.pending) == (board.chip.serial, True, False)
        assert client.certificate() is None
        request = read_csr(client.csr())
        assert client.hello().pending
        der = certify(request.public_key)
        client.store(der)
        after = client.hello()
        assert (after.pending, after.certificate_length) == (False, len(der))
        assert after.certificate_crc == zlib.crc32(der)
    board.power_cycle()
    with Mkr.open(board.url) as client:
        assert client.hello() == after
        assert client.certificate() == der
    assert request.public_key in [key.public_key() for key in board.chip.keys.values()]


def test_the_same_key_answers_until_a_certificate_is_stored_and_then_another(board: Board) -> None:
    asked = []
    with Mkr.open(board.url) as client:
        asked += [read_csr(client.csr()) for _ in range(2)]
    board.power_cycle()
    with Mkr.open(board.url) as client:
        asked.append(read_csr(client.csr()))
        assert len({request.spki_sha256 for request in asked}) == 1
        client.store(certify(asked[0].public_key))
        renewal = read_csr(client.csr())
        assert renewal.spki_sha256 != asked[0].spki_sha256
        # The key of the stored certificate is good until the next one is stored.
        kept = [key.public_key() for key in board.chip.keys.values()]
        assert kept == [asked[0].public_key, renewal.public_key]
        assert client.certificate() is not None
        client.store(certify(renewal.public_key))
        third = read_csr(client.csr())
    assert third.spki_sha256 not in (renewal.spki_sha256, asked[0].spki_sha256)
    assert board.chip.keys_made == 3


@pytest.mark.parametrize("number", range(LINES))
def test_the_cable_may_be_pulled_out_at_any_line(board: Board, number: int) -> None:
    ca: dict[bytes, bytes] = {}
    with MkrCable(board.url, lambda at, line: None if at == number else line) as cable:
        with pytest.raises(Unplugged):
            enrolled(cable.url, ca)
        assert cable.is_out
    board.power_cycle()
    with Mkr.open(board.url) as client:
        stored = client.certificate()
    if stored is None:
        enrolled(board.url, ca)
    # However it went, there was one key and one certificate.
    assert (board.chip.keys_made, len(ca)) == (1, 1)


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "lost": lambda line: line[:0],
    "damaged": lambda line: line[:20] + bytes([line[20] ^ 1]) + line[21:],
    "cut short": lambda line: line[: len(line) // 2],
    "doubled": lambda line: line + line,
    "after noise": lambda line: b"\x00\xff~noise HF1 " + b"z" * 500 + b"\n" + line,
    "joined to noise": lambda line: b"HF1 0000 OK" + line,
}


def once(fault: Callable[[bytes], bytes], number: int) -> Fault:
    return lambda at, line: fault(line) if at == number else line


@pytest.mark.parametrize("number", range(0, LINES, 3))
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_at_any_line_is_got_over(board: Board, fault: str, number: int) -> None:
    with MkrCable(board.url, once(FAULTS[fault], number)) as cable:
        enrolled(cable.url, {})
        assert len(cable.lines) >= LINES
    assert board.chip.keys_made == 1


@pytest.mark.parametrize("number", range(2, LINES, 5))
def test_a_reset_at_any_line_is_got_over(board: Board, number: int) -> None:
    """The board forgets what it had in its memory; its port stays."""

    def reset(at: int, line: bytes) -> bytes:
        if at == number:
            board.power_cycle()
        return line

    with MkrCable(board.url, reset) as cable:
        enrolled(cable.url, {})
    assert board.chip.keys_made == 1


@pytest.mark.parametrize("number", range(1, 8))
def test_power_that_fails_in_any_write_leaves_the_old_state_or_the_new(
    board: Board, number: int
) -> None:
    """Of the seven writes of an enrolment: state, five of the certificate, state."""
    board.chip.cut_at_write = number
    enrolled(board.url, {})
    assert board.chip.writes > 7
    assert board.chip.keys_made == (2 if number == 1 else 1)


def test_an_answer_that_comes_late_is_not_taken_for_another(board: Board) -> None:
    held: list[bytes] = []

    def late(at: int, line: bytes) -> bytes:
        if at == 1:  # the answer to the first HELLO comes with the answer to the next request
            held.append(line)
            return b""
        return b"".join(held) + line if at == 3 else line

    with MkrCable(board.url, late) as cable, Mkr.open(cable.url) as client:
        facts = client.hello()
        assert facts.chip == board.chip.serial
        assert read_csr(client.csr()).public_key


def test_what_was_half_sent_before_costs_no_try(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mkr, "_TRIES", 1)
    monkeypatch.setattr(mkr, "_QUICK_S", 5.0)
    with SerialPort.open(board.url) as port:
        port.write(b"HF1 00aa HEL")
        assert Mkr(port).hello().chip == board.chip.serial


def test_who_does_not_answer_is_given_up(board: Board) -> None:
    with MkrCable(board.url, lambda _at, _line: b"") as cable, Mkr.open(cable.url) as client:
        with pytest.raises(NoAnswer, match="handfast_enrol"):
            client.hello()
        assert len(cable.lines) == mkr._TRIES


@pytest.mark.parametrize("flood", [b"x" * 50_000, b"hello\n" * 9_000], ids=["line", "lines"])
def test_who_never_ends_a_line_or_prints_a_flood_is_given_up(board: Board, flood: bytes) -> None:
    with (
        MkrCable(board.url, lambda at, line: line if at % 2 == 0 else flood) as cable,
        Mkr.open(cable.url) as client,
        pytest.raises(NoAnswer),
    ):
        client.hello()


def answering(*words: str, version: int = 1) -> Fault:
    """Put other words into every answer."""

    def change(_at: int, line: bytes) -> bytes:
        said = mkr_lines.decode(line)
        if said is None or said.words[0] != "OK":
            return line
        body = f"HF{version} {said.id:04x} {' '.join(words)}".encode()
        return body + b" *%08x\n" % zlib.crc32(body)

    return change


@pytest.mark.parametrize(
    ("words", "version", "said"),
    [
        (("OK",), 1, "makes no sense"),
        (("OK", "a", "b", "locked", "none", "x", "0"), 1, "makes no sense"),
        (("OK", "a", "b", "locked", "none", "0"), 1, "makes no sense"),
        (("OK",), 2, "version 2"),
        (("ERR", "unheard-of"), 1, "unheard-of"),
        (("ERR",), 1, "refuses"),
        (("ERR", "chip"), 1, "secure element"),
    ],
)
def test_answers_that_make_no_sense_are_said(
    board: Board, words: tuple[str, ...], version: int, said: str
) -> None:
    with MkrCable(board.url, answering(*words, version=version)) as cable:
        with Mkr.open(cable.url) as client, pytest.raises(BoardProblem, match=said) as caught:
            client.hello()
        assert not isinstance(caught.value, NoAnswer)


@pytest.mark.parametrize(
    "words", [("OK",), ("OK", "0", "00000000"), ("OK", "99999", "00000000"), ("OK", "5", "x")]
)
def test_a_request_of_no_size_is_not_fetched(board: Board, words: tuple[str, ...]) -> None:
    with (
        MkrCable(board.url, answering(*words)) as cable,
        Mkr.open(cable.url) as client,
        pytest.raises(BoardProblem, match="makes no sense"),
    ):
        client.csr()


@pytest.mark.parametrize(
    "words", [("OK", "48", "00"), ("OK", "0"), ("OK", "0", "0g"), ("OK", "x", "00")]
)
def test_pieces_that_are_not_those_asked_for_are_not_put_together(
    board: Board, words: tuple[str, ...]
) -> None:
    def change(at: int, line: bytes) -> bytes:
        return answering(*words)(at, line) if at == 3 else line

    with (
        MkrCable(board.url, change) as cable,
        Mkr.open(cable.url) as client,
        pytest.raises(BoardProblem, match="makes no sense"),
    ):
        client.csr()


def test_a_board_whose_request_is_never_whole_is_given_up(board: Board) -> None:
    def change(_at: int, line: bytes) -> bytes:
        said = mkr_lines.decode(line)
        if said and said.words[:2] == ("OK", "0") and len(said.words) == 3:
            return mkr_lines.encode(said.id, "OK", "0", "00" * 48)
        return line

    with (
        MkrCable(board.url, change) as cable,
        Mkr.open(cable.url) as client,
        pytest.raises(BoardProblem, match="not whole"),
    ):
        client.csr()


def test_an_unlocked_chip_is_refused_and_left_alone(board: Board) -> None:
    board.chip.locked = False
    with Mkr.open(board.url) as client:
        assert not client.hello().locked
        with pytest.raises(BoardProblem, match=r"not locked.*for good"):
            client.csr()
    assert (board.chip.keys_made, board.chip.writes) == (0, 0)


def test_a_certificate_for_another_key_is_refused_by_the_board(board: Board) -> None:
    with Mkr.open(board.url) as client:
        client.csr()
        with pytest.raises(BoardProblem, match="not for the key"):
            client.store(certify(new_key().public_key()))
        assert client.certificate() is None
        assert client.hello().pending


def test_a_certificate_is_stored_only_for_a_key_that_waits(board: Board) -> None:
    with Mkr.open(board.url) as client:
        with pytest.raises(BoardProblem, match="made no key"):
            client.store(certify(new_key().public_key()))
        der = certify(read_csr(client.csr()).public_key)
        client.store(der)
        client.store(der)  # the answer to the first may have got lost
        with pytest.raises(BoardProblem, match="made no key"):
            client.store(certify(new_key().public_key()))
        assert client.certificate() == der


def test_the_largest_certificate_fits_and_a_larger_one_is_not_sent(board: Board) -> None:
    with Mkr.open(board.url) as client:
        key = read_csr(client.csr()).public_key
        small = len(certify(key))
        room = mkr_lines.LONGEST_CERTIFICATE
        with pytest.raises(BoardProblem, match="shorter --device-id"):
            client.store(bytes(room + 1))
        # A signature's length varies by some bytes.
        exact = next(der for _ in range(500) if len(der := certify(key).ljust(room, b"\0")) == room)
        assert small < room
        client.store(exact)
        assert client.certificate() == exact


def test_a_chip_that_fails_is_said_and_costs_nothing(board: Board) -> None:
    with Mkr.open(board.url) as client:
        request = read_csr(client.csr())
        board.chip.broken = True
        with pytest.raises(BoardProblem, match="secure element does not"):
            client.csr()
        with pytest.raises(BoardProblem, match="secure element does not"):
            client.store(certify(request.public_key))
        board.chip.broken = False
        assert read_csr(client.csr()).spki_sha256 == request.spki_sha256
