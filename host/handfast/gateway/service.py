"""One gateway on one state folder: loads the CAs, opens the listeners, runs until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handfast.errors import EnvironmentProblem, UsageError
from handfast.files import write_atomically
from handfast.gateway.app import build_app
from handfast.gateway.context import Gateway
from handfast.gateway.log import close_log, open_log
from handfast.gateway.own_leaf import MAX_LIFETIME_S, ContextPlan, OwnLeaves
from handfast.gateway.registry import Registry
from handfast.gateway.reserve import Reserve
from handfast.gateway.rollover import Rollover, issuers
from handfast.gateway.server import (
    MAX_RESUMABLE_S,
    ConnectionInfo,
    Limits,
    Listener,
    Server,
)
from handfast.pki.authorities import (
    Authority,
    load_authority,
    load_certificates,
    load_trust_domain,
)
from handfast.pki.profiles import ISSUING, ISSUING_LIFETIME
from handfast.pki.rollover import load_published
from handfast.state import StateDir

# No device's leaf outlives the CA that issues it.
MAX_DEVICE_LIFETIME_S = int(ISSUING_LIFETIME.total_seconds())
_STOP_GRACE_S = 5.0
_LAST_SEEN_EVERY_S = 5.0
_FORGET_EVERY_S = 60.0
# The gateway issues nothing from it; it signs its list and its responder's certificate.
_MAY_BE_ELSEWHERE = "admin"

_Plans = dict[str, tuple[int, ContextPlan | None]]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What an operator chooses.

    Attributes:
        names: DNS names and IP addresses for the gateway's own leaves; the first goes in URLs.
        host: address to listen on; ports may be 0 for any free one.
        admin_port: for administrators on other machines; ``None``: the Unix socket alone.
        resume_port: the API again, for firmware that resumes TLS sessions; ``None``: nobody does.
        overlap_s: how long a superseded device leaf stays good.
        device_lifetime_s: life of a device's operational leaf.
        leaf_lifetime_s: life of the gateway's own leaves, at most seven days.
        handshake_s: how long a peer may take for its TLS handshake, and then to begin a request;
            emulated boards are slower than any real one. Where there is no TLS it changes nothing.
    """

    state: StateDir
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    host: str = "127.0.0.1"
    api_port: int = 8443
    enrol_port: int = 8444
    public_port: int = 8080
    admin_port: int | None = None
    resume_port: int | None = None
    overlap_s: float = 300.0
    device_lifetime_s: int = 86_400
    leaf_lifetime_s: int = MAX_LIFETIME_S
    telemetry_interval_s: int = 5
    handshake_s: float = Limits().handshake_s

    def __post_init__(self) -> None:
        if not self.names:
            raise UsageError("the gateway needs a name: give --name at least once")
        if not 0 < self.leaf_lifetime_s <= MAX_LIFETIME_S:
            raise UsageError(f"the gateway's own leaf lives 1 to {MAX_LIFETIME_S} s")
        if not 0 < self.device_lifetime_s <= MAX_DEVICE_LIFETIME_S:
            raise UsageError(f"a device's leaf lives 1 to {MAX_DEVICE_LIFETIME_S} s")

    def limits(self, *, tls: bool) -> Limits:
        """Return what a peer of a listener may take."""
        if not tls:  # where slow boards are in time, and strangers should not have more of it
            return Limits()
        header_s = max(Limits().header_s, self.handshake_s)
        return Limits(handshake_s=self.handshake_s, header_s=header_s)


async def serve(
    settings: GatewaySettings,
    passphrase: bytes,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[dict[str, Any]], None] = lambda _ready: None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Run the gateway until ``stop`` is set.

    Args:
        settings: see :class:`GatewaySettings`.
        passphrase: of the CA keys.
        stop: ends the gateway in order: requests in flight are finished first.
        on_ready: told the content of ready.json once every listener listens.
        clock: unix seconds.

    Raises:
        EnvironmentProblem: a port is in use, another gateway runs here, the registry is unusable.
        Refused: the passphrase is wrong.
        UsageError: there are no CAs in the state folder.
    """
    state = settings.state
    async with AsyncExitStack() as stack:
        admin_ca = load_certificates(state)["admin"]
        published = load_published(state)
        authorities = _load_authorities(state, passphrase)
        state.create_gateway()
        stack.enter_context(_only_gateway(state))
        state.gateway_ready.unlink(missing_ok=True)  # a killed gateway's
        with _writable(state.gateway_log):
            log = open_log(state.gateway_log)
        stack.callback(close_log, log)
        _warn_of_root_key(state, log)
        if _MAY_BE_ELSEWHERE not in authorities:
            log.warning("ca_not_answered_for", ca=_MAY_BE_ELSEWHERE, reason="its key is not here")
        reserve = Reserve(state.registry_reserve)
        registry = await Registry.open(state.registry, clock=clock, reserve=reserve, log=log)
        stack.push_async_callback(registry.close)
        leaves = OwnLeaves(
            issuers(authorities.values(), published),
            settings.names,
            lifetime_s=settings.leaf_lifetime_s,
            clock=clock,
            log=log,
        )
        await leaves.renew()
        gateway = Gateway(
            registry=registry,
            authorities=authorities,
            published=published,
            admin_ca=admin_ca,
            trust_domain=load_trust_domain(state),
            overlap_s=settings.overlap_s,
            device_lifetime_s=settings.device_lifetime_s,
            time_stamper=leaves,
            own=leaves,
            close_device=lambda device_id: _close_device(server, registry, device_id),
            renew_leaves=leaves.renew,
            leaf_ends=leaves.ends,
            log=log,
            telemetry_interval_s=settings.telemetry_interval_s,
        )
        gateway.rollover = rollover = Rollover(state, passphrase, gateway, leaves)
        listeners = _open_listeners(settings, gateway, leaves, stack)
        server = Server(build_app(gateway), listeners, log=log)
        stack.push_async_callback(_stopped, log)
        await server.start()
        stack.push_async_callback(server.stop, grace_s=_STOP_GRACE_S)
        await stack.enter_async_context(_in_background(leaves.keep_fresh()))
        await stack.enter_async_context(_in_background(rollover.keep_moving()))
        await stack.enter_async_context(_in_background(_keep_last_seen(registry)))
        await stack.enter_async_context(_in_background(_forget_expired(registry)))
        on_ready(stack.enter_context(_announced(state, gateway.urls)))
        log.info("gateway_ready", **gateway.urls)
        await stop.wait()
        log.info("gateway_stopping")


def _open_listeners(
    settings: GatewaySettings, gateway: Gateway, leaves: OwnLeaves, stack: AsyncExitStack
) -> list[Listener]:
    device, factory = gateway.certificates["device"], gateway.certificates["factory"]
    plans: _Plans = {
        "api": (settings.api_port, ContextPlan((device,), "required")),
        "enrol": (settings.enrol_port, ContextPlan((device, factory), "optional")),
        "public": (settings.public_port, None),
    }
    if settings.admin_port is not None:
        anchor = gateway.certificates["admin"]
        plans["admin-tls"] = settings.admin_port, ContextPlan((anchor,), "required")
    if settings.resume_port is not None:
        resuming = ContextPlan((device,), "required", resumable_s=MAX_RESUMABLE_S)
        plans["api-resume"] = settings.resume_port, resuming
    listeners = []
    for name, (port, plan) in plans.items():
        context = None if plan is None else leaves.context(plan)
        limits = settings.limits(tls=plan is not None)
        listener = Listener(name, (settings.host, port), context, limits)
        if plan is not None:
            leaves.swap_into(plan, listener.swap_context)
        listeners.append(listener)
    listeners.append(
        Listener("admin", settings.state.admin_socket, None, settings.limits(tls=False))
    )
    for listener in listeners:
        chosen_by = listener.name.removesuffix("-tls").removeprefix("api-")
        option = f"--host or --{chosen_by}-port"
        with _option_named(listener.name in plans, option):
            listener.open()
        stack.callback(listener.stop)
        gateway.urls[listener.name] = _url(settings, listener, plans)
    return listeners


@contextmanager
def _option_named(applies: bool, options: str) -> Iterator[None]:
    """Say by which options the address that could not be had is chosen."""
    try:
        yield
    except EnvironmentProblem as error:
        if not applies:
            raise
        raise EnvironmentProblem(f"{error} ({options})") from error


def _url(settings: GatewaySettings, listener: Listener, plans: _Plans) -> str:
    """Return what is announced: by the first name of our leaves, not by the address bound."""
    if listener.name not in plans:
        return str(settings.state.admin_socket)
    scheme = "https" if plans[listener.name][1] else "http"
    name = settings.names[0]
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{listener.port}"


def _load_authorities(state: StateDir, passphrase: bytes) -> dict[str, Authority]:
    """Return the issuing CAs, but for the admin CA where its key is kept off this machine."""
    names = [profile.name for profile in ISSUING]
    if not state.ca_key(_MAY_BE_ELSEWHERE).exists():
        names.remove(_MAY_BE_ELSEWHERE)
    return {name: load_authority(state, name, passphrase) for name in names}


def _warn_of_root_key(state: StateDir, log: Any) -> None:
    """The root vouches for every other CA: who takes this machine should not find its key."""
    key = state.ca_key("root")
    if key.exists():
        log.warning("root_key_not_offline", path=str(key), advice="move it off this machine")


@contextmanager
def _only_gateway(state: StateDir) -> Iterator[None]:
    """Hold the folder's lock; the kernel drops it however this process ends."""
    with _writable(state.gateway_lock):
        handle = os.open(state.gateway_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 20).decode().strip() or "unknown"
            raise EnvironmentProblem(
                f"another gateway (process {owner}) runs on {state.root}; stop it first, or "
                "choose another folder with --dir"
            ) from None
        with _writable(state.gateway_lock):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def _announced(state: StateDir, urls: dict[str, str]) -> Iterator[dict[str, Any]]:
    ready = {"pid": os.getpid(), **urls}
    with _writable(state.gateway_ready):
        write_atomically(state.gateway_ready, json.dumps(ready).encode() + b"\n")
    try:
        yield ready
    finally:
        state.gateway_ready.unlink(missing_ok=True)


@asynccontextmanager
async def _in_background(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_last_seen(registry: Registry) -> None:
    while True:
        await asyncio.sleep(_LAST_SEEN_EVERY_S)
        await registry.write_last_seen()


async def _forget_expired(registry: Registry) -> None:
    while True:
        await asyncio.sleep(_FORGET_EVERY_S)
        registry.forget_expired()


def _close_device(server: Server, registry: Registry, device_id: str) -> int:
    """Close every connection that a device opened, whether or not it made a request yet."""
    known = registry.view.certificates

    def is_theirs(peer: ConnectionInfo) -> bool:
        digest = peer.client_certificate_sha256
        certificate = known.get(digest) if digest is not None else None
        return device_id in (peer.device_id, certificate and certificate.device_id)

    return server.close_connections(is_theirs)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"{path} cannot be written: {error.strerror}; check the disk and permissions"
        ) from error


async def _stopped(log: Any) -> None:
    log.info("gateway_stopped")
