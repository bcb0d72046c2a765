# Handfast mTLS for MicroPython: TLS contexts, and sockets that keep to a deadline
# MIT license; Copyright (c) 2026 the Handfast authors
"""Uses the native ``tls`` module, never ``ssl`` (which sets CERT_NONE).

mbedTLS reads and writes through a small stream object of ours that polls with the deadline, so
that neither a handshake nor a read can be held by a peer that sends one byte a second.
"""

import gc
import io
import select
import socket
import time

import tls

from micropython import const

from .errors import (
    ClockNotSet,
    NotEnrolled,
    StoreDamaged,
    Unreachable,
)
from .heap import fill_holes, make_room

# RSA verifies cheaply on a board, ECDSA does not; all of these are forward-secret AEAD (DESIGN 5).
_CIPHERS = const(
    (
        "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
    )
)
# Called with True before a handshake and False after it; net.py has it wake the radio.
awake = None
# In place of anchors: any peer will do, since nothing secret is sent (anchors.py).
UNVERIFIED = object()
_ECONNRESET = const(104)
_ETIMEDOUT = const(110)
CURRENT = "current"  # the identity that the store's pointer names
_CONNECTING = const((11, 114, 115, 119))  # EAGAIN, EALREADY, EINPROGRESS, and lwIP's EINPROGRESS


def deadline_in(timeout_ms):
    return time.ticks_add(time.ticks_ms(), timeout_ms)


def left_ms(deadline):
    return max(0, time.ticks_diff(deadline, time.ticks_ms()))


def require_ready(store, clock=None):
    """Raise ClockNotSet or EntropyError on a board that may not open a TLS session yet.

    Without a `clock` the board's own is taken, unless it stands before the floor.
    """
    if clock is not None:
        believable = clock.believable
    else:
        from .utc import BUILD_TIME, now

        believable = now() >= max(BUILD_TIME, store.read_floor())
    if not believable:
        raise ClockNotSet("no believable time yet: sync it first")
    store.drbg()  # a board with stuck entropy opens no TLS session


def choose_identity(store, identity):
    """Return the Identity (None for none) that CURRENT, a function or an Identity stands for."""
    if identity is None or hasattr(identity, "cert_der"):
        return identity
    if identity == CURRENT:
        slot = store.current()
        identity = store.identity(slot) if slot else None
    else:
        identity = identity()
    if identity is None or not identity.cert_der:
        raise NotEnrolled("no usable certificate yet: let an Agent enrol it")
    return identity


class _Wire(io.IOBase):
    """The stream that mbedTLS sees: None is "not now", a negative number is an errno."""

    holes = None  # during a handshake: heap.fill_holes(), from when mbedTLS has its buffers

    def __init__(self, raw, deadline):
        self.raw = raw
        self.deadline = deadline
        self.heard = False  # whether the peer has sent a byte
        self.blocking = True  # during the handshake; afterwards Connection does the waiting
        self.wants = select.POLLIN  # what mbedTLS could not do at once
        self._poll = select.poll()
        self._poll.register(raw, select.POLLIN)

    def wait(self, event):
        """Return the events that poll saw, 0 at the deadline."""
        return self.look(event, left_ms(self.deadline))

    def look(self, event, timeout_ms):
        self._poll.modify(self.raw, event)
        for ready in self._poll.ipoll(timeout_ms):
            return ready[1]
        return 0

    def readinto(self, buf):
        try:
            while left_ms(self.deadline):  # looked at each time: some peers never make us wait
                n = self.raw.readinto(buf)
                if n is not None or not self.blocking:
                    self.heard = self.heard or bool(n)
                    self.wants = select.POLLIN
                    return n
                self.wait(select.POLLIN)
            return -_ETIMEDOUT
        except OSError as error:
            return -error.errno

    def write(self, buf):
        if self.holes:
            next(self.holes)
        try:
            while left_ms(self.deadline):
                n = self.raw.write(buf)
                if n is not None or not self.blocking:
                    self.wants = select.POLLOUT
                    return n
                self.wait(select.POLLOUT)
            return -_ETIMEDOUT
        except OSError as error:
            return -error.errno

    def ioctl(self, _request, _arg):
        return 0  # closing is Connection's business, polling is done above


class Connection:
    """One open connection, plain or TLS, with one total deadline that `extend` renews."""

    def __init__(self, wire, stream):
        self._wire = wire
        self._stream = stream

    def extend(self, timeout_ms):
        self._wire.deadline = deadline_in(timeout_ms)

    def send(self, data):
        """Send all of it, or raise OSError (ETIMEDOUT at the deadline)."""
        while left_ms(self._wire.deadline):
            try:
                n = self._stream.write(data) or 0
            except OSError as error:
                raise from_wire(error)
            if n == len(data):
                return
            if not n:
                self._wire.wait(select.POLLOUT)
            data = memoryview(data)[n:]
        raise OSError(_ETIMEDOUT)

    def receive_into(self, buf):
        """Return how many bytes came, 0 at the peer's end; OSError(ETIMEDOUT) at the deadline."""
        while left_ms(self._wire.deadline):
            try:
                n = self._stream.readinto(buf)
            except OSError as error:
                raise from_wire(error)
            if n is not None:
                return n
            self._wire.wait(select.POLLIN)
        raise OSError(_ETIMEDOUT)

    def stale(self):
        """Whether an idle connection has something to read: the peer closed it or broke rules."""
        return self._wire.look(select.POLLIN, 0) != 0

    def close(self):
        if self._stream is not None:
            _close(self._stream)
            _close(self._wire.raw)
            self._stream = self._wire = None
            gc.collect()


def from_wire(error):
    """What the wire below mbedTLS reported comes back as a negative errno."""
    return OSError(-error.errno) if -256 < error.errno < 0 else error


def _close(stream):
    try:
        stream.close()
    except OSError:
        pass  # gone already


def _unreachable(host, port, why, *args):
    return Unreachable("%s:%d %s" % (host, port, why), *args)


def dial(host, port, deadline):
    """Begin a TCP connection, return its wire: writable once it stands or has failed."""
    try:
        info = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    except (OSError, IndexError) as error:
        raise _unreachable(host, port, "has no address: check the name and the network", error)
    try:
        raw = socket.socket(info[0], info[1], info[2])
    except OSError as error:
        raise _unreachable(host, port, "is not called: no socket is left", error)
    raw.setblocking(False)
    try:
        raw.connect(info[-1])
    except OSError as error:
        if error.errno not in _CONNECTING:
            _close(raw)
            raise _refuses(host, port, error)
    try:
        # Nagle and delayed ACK cost 40 ms a handshake; lwIP has a number of its own for it.
        raw.setsockopt(6, getattr(socket, "TCP_NODELAY", 1), 1)
    except (OSError, AttributeError):
        pass  # a port without it still works
    return _Wire(raw, deadline)


def settle(wire, host, port, events):
    """Return the wire if it is connected, by the events that poll saw; raise Unreachable."""
    if not events:
        _close(wire.raw)
        raise _unreachable(host, port, "does not answer: check address and network")
    if events & (select.POLLERR | select.POLLHUP):
        try:
            wire.raw.readinto(bytearray(1))  # raises what went wrong
            raise OSError(_ECONNRESET)
        except OSError as error:
            _close(wire.raw)
            raise _refuses(host, port, error)
    return wire


def _refuses(host, port, error):
    return _unreachable(host, port, "refuses the connection: is it running?", error.errno)


def open_wire(host, port, deadline):
    """Connect TCP within the deadline; raise Unreachable."""
    wire = dial(host, port, deadline)
    try:
        events = wire.wait(select.POLLOUT)
    except BaseException:  # Ctrl-C
        _close(wire.raw)
        raise
    return settle(wire, host, port, events)


def client_context(anchors, identity=None, pins=None):
    """Return a context that verifies by `anchors` (DER) and `pins` (a pin.Pins), if any, and
    answers with `identity`, if any.

    With UNVERIFIED it verifies nothing, and has no identity to give away.
    """
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    if anchors is UNVERIFIED:
        context.verify_mode = tls.CERT_NONE
        anchors, identity = (), None
    else:
        context.verify_mode = tls.CERT_REQUIRED
    try:
        context.set_ciphers(_CIPHERS)
    except OSError:
        context.set_ciphers(_CIPHERS[:1])  # a build without SHA-384
    for anchor in anchors:  # one a call: of several in one buffer only the first counts
        context.load_verify_locations(anchor)
    if pins is not None:
        context.verify_callback = pins.verify
    if identity is not None:
        if not identity.paired():
            raise StoreDamaged("slot %s holds a certificate for another key" % identity.name)
        if identity.in_chip():
            from .atecc import sign_handshakes

            sign_handshakes(context, identity)
        else:
            context.load_cert_chain(identity.cert_der, identity.key_der)
    return context


def step_deadline(left, limit_ms):
    """Return the deadline of one step: its own limit (None for none), but not past the total."""
    return deadline_in(left if limit_ms is None else min(left, limit_ms))


def hold_holes(wire, context, free):
    """Fill the heap's holes during a handshake, but not where a secure element signs: its driver
    allocates in the middle of it. Return whether."""
    if getattr(context, "ecdsa_sign_callback", None):
        return False
    wire.holes = fill_holes(free)
    return True


def connect_tls(
    host,
    port,
    timeout_ms,
    anchors,
    identity=None,
    connect_ms=None,
    handshake_ms=None,
    pins=None,
):
    """Return a TLS Connection after a full handshake; the peer is verified, or Untrusted."""
    make_room()
    free = gc.mem_free()
    total = deadline_in(timeout_ms)
    wire = open_wire(host, port, step_deadline(timeout_ms, connect_ms))
    wire.deadline = step_deadline(left_ms(total), handshake_ms)
    context = None
    if awake:
        awake(True)
    threshold = gc.threshold()
    try:
        context = client_context(anchors, identity, pins)
        if hold_holes(wire, context, free):
            gc.threshold(-1)  # mbedTLS takes some 600 KB and gives them back
        stream = context.wrap_socket(wire, server_hostname=host)
    except BaseException as error:  # Ctrl-C too: the socket is closed either way
        _close(wire.raw)
        heard, wire = wire.heard, None
        gc.collect()
        from .failure import handshake_error

        raise handshake_error(error, host, port, heard, pins, context, free)
    finally:
        gc.threshold(threshold)
        if awake:
            awake(False)
    wire.holes = None
    wire.blocking = False
    return Connection(wire, stream)
