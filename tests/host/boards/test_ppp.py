"""The far end of a PPP link: frames, and what it answers to a board that is played here."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.boards.ppp import IPCP, IPV4, LCP, PppPeer
from handfast.boards.ppp_frames import MAX_FRAME_BYTES, FrameReader, encode_frame, fcs16

ADDRESS = b"\x03\x06\x0a\x00\x02\x0f"
DNS = b"\x81\x06\x0a\x00\x02\x03"
REQUEST, ACK, NAK, REJECT, TERMINATE, TERMINATE_ACK = range(1, 7)


class PlayedBoard:
    """The board's end: says what it is told to, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.packets: list[bytes] = []
        self.lines: list[bytes] = []
        self._reader = FrameReader()
        self.peer = PppPeer(send=self._hear, deliver=self.packets.append)

    def _hear(self, octets: bytes) -> None:
        self.lines.append(octets)
        self.heard += self._reader.feed(octets)

    def say(self, protocol: int, code: int, identifier: int, data: bytes = b"") -> None:
        packet = struct.pack("!BBH", code, identifier, 4 + len(data)) + data
        self.peer.receive(encode_frame(protocol, packet))

    def last(self, protocol: int, code: int) -> tuple[int, bytes]:
        """Identifier and data of the last packet of that kind; it is taken out."""
        for index in range(len(self.heard) - 1, -1, -1):
            found, packet = self.heard[index]
            if found == protocol and packet[0] == code:
                del self.heard[index]
                return packet[1], packet[4:]
        raise AssertionError(f"no {protocol:#x} {code} in {self.heard}")

    def tick(self, count: int) -> None:
        for _ in range(count):
            self.peer.tick()

    def open(self, protocol: int, options: bytes) -> None:
        self.say(protocol, REQUEST, 1, options)
        assert self.last(protocol, ACK) == (1, options)
        self.say(protocol, ACK, *self.last(protocol, REQUEST))

    def bring_up(self) -> None:
        self.open(LCP, b"\x02\x06\0\0\0\0\x07\x02\x08\x02")
        self.open(IPCP, ADDRESS + DNS)
        assert self.peer.is_up


@pytest.fixture
def board() -> PlayedBoard:
    return PlayedBoard()


# Frames


def test_the_check_sequence_is_that_of_the_standard() -> None:
    assert fcs16(b"123456789") ^ 0xFFFF == 0x906E  # CRC-16/X-25


@given(st.binary(max_size=300), st.integers(0, 0xFFFFFFFF), st.lists(st.integers(1, 50)))
def test_what_is_framed_is_read_again_however_it_is_cut(
    payload: bytes, escaped: int, cuts: list[int]
) -> None:
    line = encode_frame(IPV4, payload, escaped=escaped)
    for octet in range(0x20):
        assert not escaped >> octet & 1 or octet not in line
    reader = FrameReader()
    found = []
    for cut in cuts:
        found += reader.feed(line[:cut])
        line = line[cut:]
    assert [*found, *reader.feed(line)] == [(IPV4, payload)]
    assert reader.damaged == 0


@given(st.binary(max_size=600))
def test_noise_gives_no_frame_and_does_no_harm(noise: bytes) -> None:
    reader = FrameReader()
    noise = noise.replace(b"\x7e", b"")
    assert list(reader.feed(noise + b"\x7e")) == []
    assert list(reader.feed(encode_frame(LCP, b"x"))) == [(LCP, b"x")]


def test_a_frame_without_an_end_is_not_kept() -> None:
    reader = FrameReader()
    assert list(reader.feed(b"\x55" * (3 * MAX_FRAME_BYTES))) == []
    assert len(reader._content) == MAX_FRAME_BYTES
    assert list(reader.feed(b"\x7e")) == []
    assert reader.damaged == 1


def test_a_changed_octet_is_noticed() -> None:
    reader = FrameReader()
    line = bytearray(encode_frame(IPV4, b"hello"))
    line[5] ^= 1
    assert list(reader.feed(bytes(line))) == []
    assert reader.damaged == 1


def test_compressed_headers_are_read() -> None:
    content = b"\x21hello"
    line = b"\x7e" + content + struct.pack("<H", fcs16(content) ^ 0xFFFF) + b"\x7e"
    assert list(FrameReader().feed(line)) == [(IPV4, b"hello")]


# Negotiation


def test_a_board_is_told_its_address_and_packets_go_both_ways(board: PlayedBoard) -> None:
    board.open(LCP, b"")
    board.say(IPCP, REQUEST, 1, b"\x03\x06\0\0\0\0\x81\x06\0\0\0\0\x83\x06\0\0\0\0")
    assert board.last(IPCP, REJECT) == (1, b"\x83\x06\0\0\0\0")
    board.say(IPCP, REQUEST, 2, b"\x03\x06\0\0\0\0\x81\x06\0\0\0\0")
    assert board.last(IPCP, NAK) == (2, ADDRESS + DNS)
    assert not board.peer.is_up
    board.say(IPCP, REQUEST, 3, ADDRESS + DNS)
    board.say(IPCP, ACK, *board.last(IPCP, REQUEST))
    assert board.peer.is_up
    assert board.peer.bring_ups == 1
    board.peer.receive(encode_frame(IPV4, b"up"))
    board.peer.send_packet(b"down")
    assert (board.packets, board.heard[-1]) == ([b"up"], (IPV4, b"down"))


def test_no_packet_goes_through_before_the_link_is_up(board: PlayedBoard) -> None:
    board.open(LCP, b"")
    board.heard.clear()
    board.peer.receive(encode_frame(IPV4, b"up"))
    board.peer.send_packet(b"down")
    assert (board.packets, board.heard) == ([], [])


def test_an_answer_to_another_request_does_not_count(board: PlayedBoard) -> None:
    board.say(LCP, REQUEST, 1)
    identifier, options = board.last(LCP, REQUEST)
    board.say(LCP, ACK, identifier + 1, options)
    board.say(LCP, ACK, identifier, b"")
    board.heard.clear()
    board.say(IPCP, REQUEST, 1, ADDRESS)
    assert board.heard == []  # LCP is not open


def test_what_is_not_answered_is_asked_again(board: PlayedBoard) -> None:
    board.say(LCP, REQUEST, 1)
    first = board.last(LCP, REQUEST)
    board.tick(3)
    assert board.last(LCP, REQUEST) == first
    board.say(LCP, ACK, *first)
    board.tick(3)  # the board is silent: it is woken
    board.last(LCP, 9)


def test_it_is_asked_ever_more_seldom(board: PlayedBoard) -> None:
    board.say(LCP, REQUEST, 1)
    board.heard.clear()
    board.tick(100)
    assert len(board.heard) == 3 + (100 - 3 - 6 - 12) // 24


def test_nothing_is_said_to_a_board_that_never_spoke_nor_to_one_that_is_up(
    board: PlayedBoard,
) -> None:
    board.tick(100)
    assert board.heard == []
    board.bring_up()
    board.heard.clear()
    board.tick(100)
    assert board.heard == []


def test_a_board_that_was_reset_begins_anew(board: PlayedBoard) -> None:
    for count in (1, 2, 3):
        board.bring_up()
        assert board.peer.bring_ups == count
        board.say(LCP, REQUEST, 1)
        assert not board.peer.is_up
        board.last(LCP, REQUEST)


def test_a_board_that_hangs_up_is_let_go(board: PlayedBoard) -> None:
    board.bring_up()
    board.say(LCP, TERMINATE, 9)
    assert board.last(LCP, TERMINATE_ACK) == (9, b"")
    assert not board.peer.is_up
    board.bring_up()


def test_control_characters_are_escaped_as_the_board_wants_it(board: PlayedBoard) -> None:
    board.open(LCP, b"\x02\x06\x00\x00\x00\x02")  # only 1 is to be escaped
    board.open(IPCP, ADDRESS + DNS)
    board.peer.send_packet(b"\x01\x02")
    assert b"\x7d\x21\x02" in board.lines[-1]
    board.say(LCP, REQUEST, 2)  # anew, and everything is escaped until it says otherwise
    assert not set(board.lines[-1]) & set(range(0x20))


def test_a_protocol_that_we_do_not_speak_is_rejected(board: PlayedBoard) -> None:
    board.open(LCP, b"")
    board.peer.receive(encode_frame(0x8057, b"v6"))
    assert board.last(LCP, 8)[1] == b"\x80\x57v6"


@given(
    st.lists(st.tuples(st.sampled_from([LCP, IPCP, 0x80FD]), st.binary(max_size=40)), max_size=20)
)
def test_packets_that_make_no_sense_do_no_harm(packets: list[tuple[int, bytes]]) -> None:
    board = PlayedBoard()
    for protocol, packet in packets:
        board.peer.receive(encode_frame(protocol, packet))
        board.peer.tick()
    board.say(LCP, TERMINATE, 1)
    board.heard.clear()
    board.bring_up()
