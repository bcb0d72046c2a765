"""The relay is a cable: nothing is changed on the way, and when it is cut both ends know."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast.lab.relay import Relay
from handfast.lab.tls_records import RecordCutter

TIMEOUT_S = 20.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_S)
        yield listener


@pytest.fixture
def relay(listener: socket.socket) -> Iterator[Relay]:
    with Relay(f"http://127.0.0.1:{listener.getsockname()[1]}/tsa") as relay:
        yield relay


def port_of(relay: Relay) -> int:
    return int(relay.url.rpartition(":")[2].partition("/")[0])


def dial(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(relay)), timeout=TIMEOUT_S)


def through(relay: Relay, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection through the relay."""
    near = dial(relay)
    far, _ = listener.accept()
    far.settimeout(TIMEOUT_S)
    near.sendall(b"?")
    assert far.recv(1) == b"?"  # the kernel accepts before the relay knows
    return near, far


def read_all(end: socket.socket) -> bytes:
    chunks = []
    while chunk := end.recv(65_536):
        chunks.append(chunk)
    return b"".join(chunks)


def test_the_url_differs_from_the_targets_in_its_port_alone(
    relay: Relay, listener: socket.socket
) -> None:
    target_port = listener.getsockname()[1]
    assert relay.url == f"http://127.0.0.1:{port_of(relay)}/tsa"
    assert port_of(relay) != target_port


def test_boards_that_reach_this_machine_elsewhere_are_given_that_address() -> None:
    with Relay("https://127.0.0.1:9/tsa", named="10.0.2.2") as relay:
        assert relay.url.startswith("https://10.0.2.2:")
        assert relay.url.endswith("/tsa")


@pytest.mark.parametrize("target", ["https://127.0.0.1", "127.0.0.1:80", ""])
def test_a_target_without_host_or_port_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="names no host and port"):
        Relay(target)


def test_megabytes_pass_unchanged_in_both_directions_at_once(
    relay: Relay, listener: socket.socket
) -> None:
    there, back = secrets.token_bytes(3_000_000), secrets.token_bytes(3_000_000)
    near, far = through(relay, listener)
    with near, far:

        def send(end: socket.socket, data: bytes) -> None:
            end.sendall(data)
            end.shutdown(socket.SHUT_WR)

        senders = [
            threading.Thread(target=send, args=pair) for pair in ((near, there), (far, back))
        ]
        received: dict[str, bytes] = {}
        readers = [
            threading.Thread(target=lambda: received.update(far=read_all(far))),
            threading.Thread(target=lambda: received.update(near=read_all(near))),
        ]
        for thread in senders + readers:
            thread.start()
        for thread in senders + readers:
            thread.join(TIMEOUT_S)
    assert received == {"far": there, "near": back}


def test_an_end_of_data_closes_one_direction_only(relay: Relay, listener: socket.socket) -> None:
    near, far = through(relay, listener)
    with near, far:
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert read_all(far) == b"question"
        far.sendall(b"answer")
        far.close()
        assert read_all(near) == b"answer"


def test_a_reset_is_handed_on(relay: Relay, listener: socket.socket) -> None:
    near, far = through(relay, listener)
    with near:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_cut_resets_what_is_open_and_what_comes_until_it_is_mended(
    relay: Relay, listener: socket.socket
) -> None:
    near, far = through(relay, listener)
    with near, far:
        relay.cut()
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    with pytest.raises(ConnectionResetError), dial(relay) as late:
        late.recv(1)
    listener.settimeout(0.2)
    with pytest.raises(TimeoutError):  # nothing of it was seen behind the relay
        listener.accept()
    listener.settimeout(TIMEOUT_S)
    assert (relay.connections, relay.refused) == (1, 1)
    relay.mend()
    near, far = through(relay, listener)
    with near, far:
        far.sendall(b"again")
        assert near.recv(5) == b"again"
    assert (relay.connections, relay.refused) == (2, 1)


def test_a_target_that_does_not_listen_is_a_reset() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # a closed port could be somebody else's by now
        with Relay(f"http://127.0.0.1:{held.getsockname()[1]}") as relay:
            with pytest.raises(ConnectionResetError), dial(relay) as near:
                near.recv(1)
            assert relay.connections == 1


def test_its_end_resets_what_is_open_and_leaves_no_thread(listener: socket.socket) -> None:
    before = threading.active_count()
    with Relay(f"http://127.0.0.1:{listener.getsockname()[1]}") as relay:
        near, far = through(relay, listener)
        near.sendall(bytes(1_000_000))  # half of it still on its way
    for end in (near, far):
        with closing(end), pytest.raises(ConnectionResetError):
            read_all(end)
    with pytest.raises(ConnectionRefusedError):
        dial(relay)
    assert threading.active_count() == before
    relay.close()
    with pytest.raises(RuntimeError, match="has been closed"):
        relay.mend()


def test_what_is_late_arrives_whole_and_in_order(relay: Relay, listener: socket.socket) -> None:
    near, far = through(relay, listener)
    relay.shape(latency_s=0.3)
    sent = secrets.token_bytes(100_000)
    began = time.monotonic()
    threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR))).start()
    with closing(near), closing(far):
        assert read_all(far) == sent
    assert time.monotonic() - began >= 0.3  # a lower bound holds on a busy machine too


def test_a_limited_bandwidth_is_kept_to(relay: Relay, listener: socket.socket) -> None:
    near, far = through(relay, listener)
    relay.shape(bytes_per_s=20_000)
    sent = secrets.token_bytes(10_000)
    began = time.monotonic()
    threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR))).start()
    with closing(near), closing(far):
        assert read_all(far) == sent
    assert time.monotonic() - began >= 0.4


def test_a_lost_connection_is_silent_and_the_next_is_carried(
    relay: Relay, listener: socket.socket
) -> None:
    near, far = through(relay, listener)
    relay.lose()
    near.sendall(b"lost")
    far.settimeout(0.3)
    with pytest.raises(TimeoutError):
        far.recv(4)
    near.settimeout(0.3)
    with pytest.raises(TimeoutError):  # nor does the near end hear of it
        near.recv(1)
    for end in (near, far, *through(relay, listener)):
        end.close()


def test_a_black_hole_takes_connections_until_it_is_mended(
    relay: Relay, listener: socket.socket
) -> None:
    relay.blackhole()
    near = dial(relay)
    near.sendall(b"hello")
    near.settimeout(0.3)
    with closing(near), pytest.raises(TimeoutError):
        near.recv(1)
    relay.mend()
    for end in through(relay, listener):
        end.close()
    assert relay.connections == 2


def test_a_reset_ends_what_is_open_and_nothing_else(relay: Relay, listener: socket.socket) -> None:
    near, far = through(relay, listener)
    relay.reset()
    with closing(near), closing(far), pytest.raises(ConnectionResetError):
        near.recv(1)
    for end in through(relay, listener):
        end.close()


def record(kind: int, body: bytes) -> bytes:
    return bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body


def test_the_next_record_of_a_type_ends_in_its_middle(
    relay: Relay, listener: socket.socket
) -> None:
    near, far = through(relay, listener)
    relay.truncate_record(23)
    handshake = record(22, b"h" * 300)
    with closing(near), closing(far):
        far.sendall(handshake + record(23, b"a" * 100) + record(23, b"b" * 100))
        assert read_all(near) == handshake + record(23, b"a" * 100)[:55]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from((20, 22, 23)), st.binary(max_size=40)), max_size=6),
    st.lists(st.integers(1, 20), max_size=20),
)
def test_records_pass_unchanged_in_whatever_pieces_they_come(
    records: list[tuple[int, bytes]], pieces: list[int]
) -> None:
    stream = b"".join(record(kind, body) for kind, body in records)
    cutter, rest, passed = RecordCutter(), stream, b""
    for size in (*pieces, len(stream)):
        chunk, rest = rest[:size], rest[size:]
        out, cut = cutter.pass_on(chunk, 21)
        assert not cut
        passed += out
    assert passed == stream
