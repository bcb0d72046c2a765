"""Where the server listens: ports, Unix sockets, caps."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from handfast.errors import EnvironmentProblem
from handfast.gateway.server import Limits, Listener
from handfast.gateway.server.listener import address_key
from support_server import (
    Reader,
    ask,
    get,
    mutual,
    plain,
    serving,
    wait_for,
)


def test_port_0_gives_a_free_port_that_the_url_names() -> None:
    with serving(mutual(), plain()) as running:
        api, public = running.listeners["api"], running.listeners["public"]
        assert api.url == f"https://127.0.0.1:{api.port}"
        assert public.url == f"http://127.0.0.1:{public.port}"
        assert 0 not in (api.port, public.port)


def test_a_port_in_use_is_an_error_that_names_it_and_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        free = plain()
        free.open()
        free_port = free.port
        taken = Listener("api", ("127.0.0.1", port), None)
        named = rf"127\.0\.0\.1:{port}.*api.*in use.*port"
        with pytest.raises(EnvironmentProblem, match=named), serving(free, taken):
            pytest.fail("it started")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", free_port), timeout=5)


def test_an_address_of_another_machine_is_an_error_that_names_it() -> None:
    with pytest.raises(EnvironmentProblem, match=r"192\.0\.2\.1:0 .*address of this machine"):
        Listener("api", ("192.0.2.1", 0)).open()


def test_a_bound_socket_is_taken_as_it_is() -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    with serving(Listener("public", bound)) as running:
        assert running.port == bound.getsockname()[1]
        assert ask(running, get()).status == 200


def test_ipv6_works() -> None:
    try:
        listener = Listener("public", ("::1", 0))
        listener.open()
    except EnvironmentProblem:
        # Nothing to test on a machine without IPv6 but the error, which was raised in order.
        return
    with serving(listener) as running:
        assert listener.url == f"http://[::1]:{listener.port}"
        with socket.create_connection(("::1", listener.port), timeout=5) as connected:
            connected.sendall(get())
            assert Reader(connected).answer().status == 200
        assert running.app.scopes[-1]["client"][0] == "::1"


# Unix sockets


def connect_unix(path: Path) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(5)
    folder = os.open(path.parent, os.O_PATH)
    try:
        connected.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    return connected


@pytest.mark.parametrize("deep", [False, True])
def test_a_unix_socket_serves_its_owner_only_and_says_who_called(
    tmp_path: Path, deep: bool
) -> None:
    folder = tmp_path / ("d" * 120) if deep else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / "admin.sock"
    with serving(Listener("admin", path)) as running:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with connect_unix(path) as connected:
            connected.sendall(get())
            assert Reader(connected).answer().status == 200
        peer = running.app.scopes[-1]["extensions"]["handfast"]["peer"]
        assert peer.unix_credentials == (os.getpid(), os.getuid(), os.getgid())
        assert running.app.scopes[-1]["client"] is None
        assert running.listener.url == f"unix:{path}"
    assert not path.exists()


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(Listener("admin", path)), connect_unix(path) as connected:
        connected.sendall(get())
        assert Reader(connected).answer().status == 200


def test_a_socket_that_somebody_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with serving(Listener("admin", path)):
        with pytest.raises(EnvironmentProblem, match="in use"):
            Listener("admin", path).open()
        with connect_unix(path) as connected:
            connected.sendall(get())
            assert Reader(connected).answer().status == 200


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(EnvironmentProblem, match=r"admin\.sock"):
        Listener("admin", path).open()
    assert path.read_text() == "precious"


def test_a_missing_folder_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"admin\.sock"):
        Listener("admin", tmp_path / "missing" / "admin.sock").open()


# Caps


def test_more_connections_than_one_address_may_have_are_reset_and_logged_once() -> None:
    with serving(plain(Limits(max_connections_per_address=2))) as running:
        with running.connect() as one, running.connect():
            wait_for(lambda: running.open_connections == 2)
            for _ in range(5):
                with pytest.raises(ConnectionResetError):
                    running.connect().recv(1)
            one.close()
            wait_for(lambda: running.open_connections == 1)
            assert ask(running, get()).status == 200
        [line] = running.log.all("connections_refused")
        assert line["reason"] == "too-many-from-address"


def test_more_connections_than_the_listener_may_have_wait_until_one_ends() -> None:
    with (
        serving(plain(Limits(max_connections=2))) as running,
        running.connect() as one,
        running.connect(),
    ):
        wait_for(lambda: running.open_connections == 2)
        with running.connect() as third:
            third.sendall(get())
            third.settimeout(0.2)
            with pytest.raises(TimeoutError):
                third.recv(1)
            one.close()
            third.settimeout(5)
            assert Reader(third).answer().status == 200


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("odd", "odd"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(host: str, key: str) -> None:
    assert address_key(host) == key
