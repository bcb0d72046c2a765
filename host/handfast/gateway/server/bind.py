"""Binding sockets: errors that say what to do, and Unix sockets that only their owner reaches."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from handfast.errors import EnvironmentProblem
from handfast.unix_socket import reachable_socket


def bind_tcp(name: str, host: str, port: int) -> socket.socket:
    """Bind a TCP socket for the listener ``name``.

    Raises:
        EnvironmentProblem: the port is in use, needs privileges, or the host is not ours.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _problem(name, host, port, error) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Two sockets may share a port with SO_REUSEADDR until one of them listens.
        bound.listen()
    except OSError as error:
        bound.close()
        raise _problem(name, host, port, error) from error
    return bound


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket with mode 0600; one that a dead process left behind is replaced.

    Raises:
        EnvironmentProblem: somebody answers there, or the path cannot be bound.
    """
    try:
        with reachable_socket(path) as reachable:
            return _bind_unix(path, reachable)
    except OSError as error:
        raise EnvironmentProblem(
            f"the socket {path} cannot be made: {error.strerror or error}; check its folder"
        ) from error


def _bind_unix(path: Path, reachable: str) -> socket.socket:
    if _answers(reachable):
        raise EnvironmentProblem(
            f"{path} is in use by another process; stop it, or choose another folder"
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is right from the first moment: nobody can connect between bind and chmod.
    before = os.umask(0o177)
    try:
        bound.bind(reachable)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound


def unlink_unix(path: Path) -> None:
    """Remove a Unix socket's name."""
    with contextlib.suppress(OSError):
        path.unlink()


def _answers(reachable: str) -> bool:
    """Tell whether somebody listens there; removes the name of a socket that nobody holds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(reachable)
        except FileNotFoundError:
            return False
        except ConnectionRefusedError:
            # Refused also by what is not a socket; that is not ours to remove.
            if Path(reachable).is_socket():
                Path(reachable).unlink(missing_ok=True)
            return False
        except OSError:
            return True  # its backlog is full, or it is not ours to look at
        return True


def _problem(name: str, host: str, port: int, error: OSError) -> EnvironmentProblem:
    place = f"{host}:{port} for the {name} listener"
    if error.errno == errno.EADDRINUSE:
        return EnvironmentProblem(
            f"{place} is in use by another program; stop it, or choose another port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return EnvironmentProblem(
            f"{place} may not be bound by this user; choose a port above 1023"
        )
    return EnvironmentProblem(
        f"{place} cannot be bound: {error.strerror or error}; choose an address of this machine"
    )
