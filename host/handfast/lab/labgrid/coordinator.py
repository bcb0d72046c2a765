"""A connection to labgrid's coordinator that outlives its restarts; places taken and given back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import grpc
from labgrid.remote.client import ClientSession, ServerError, UserError
from labgrid.remote.generated import labgrid_coordinator_pb2 as wire
from labgrid.remote.generated.labgrid_coordinator_pb2_grpc import CoordinatorStub
from labgrid.resource.remote import RemotePlaceManager
from labgrid.util.proxy import proxymanager

from handfast.errors import BoardProblem, HandfastError, Unreachable, UsageError

_PORT = 20408
_CONNECT_S = 10.0
_BACK_WITHIN_S = 30.0  # a coordinator that was there and is gone may be starting again
_RETRY_S = 0.5
_ANSWER_S = 30.0  # the coordinator gives an exporter ten seconds for each of a place's resources

_CHANNEL = (  # the first four as labgrid's client has them: a dead peer is noticed in 18 s
    ("grpc.keepalive_time_ms", 7500),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.ping_timeout_ms", 10000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

Answer = TypeVar("Answer")


class NotExported(BoardProblem):
    """A place is there, and something that belongs to it is not: its exporter is gone."""


class _Session(ClientSession):
    """labgrid's session, which keeps what is known of a resource whose exporter has gone.

    labgrid's own forgets all of it, and then fails at each poll of any place for want of it.
    """

    channel: Any
    stub: Any

    async def on_resource_changed(
        self, exporter: str, group_name: str, resource_name: str, resource: dict[str, Any]
    ) -> None:
        if not resource:
            known = self.resources.get(exporter, {}).get(group_name, {}).get(resource_name)
            if known is None:
                return
            resource = {**known.data, "avail": False, "acquired": None}
        await super().on_resource_changed(exporter, group_name, resource_name, resource)

    async def use_a_connection_of_its_own(self) -> None:
        """Leave gRPC's pool, in which all channels of a process to one address share a connection.

        The coordinator tells clients apart by their connections, and refuses a second on one: an
        earlier session that is not closed yet, or that of labgrid's own fixtures.
        """
        await self.channel.close()
        self.channel = grpc.aio.insecure_channel(self.address, options=_CHANNEL)
        self.stub = CoordinatorStub(self.channel)

    @property
    def user(self) -> str:
        """Who we are to the coordinator: ``host/user``."""
        return f"{self.gethostname()}/{self.getuser()}"

    def find(self, name: str) -> Any:
        """Return the place called ``name``, or with that alias."""
        try:
            return self.get_place(name)
        except UserError as error:
            raise UsageError(
                f"{_text(error)} at the labgrid coordinator {self.address}: "
                f"`labgrid-client -p {name} create` makes a place"
            ) from error

    def require_exported(self, place: Any) -> None:
        """Refuse a place of which something is not exported now."""
        there = {
            (exporter, group, entry.cls, name): entry.avail
            for exporter, groups in self.resources.items()
            for group, entries in groups.items()
            for name, entry in entries.items()
        }
        missing = place.unmatched([path for path, available in there.items() if available])
        if missing is not None:
            raise NotExported(
                f"labgrid place {place.name}: nothing exports {missing}, see whether its exporter "
                "runs"
            )


class Coordinator:
    """A connection to the coordinator, made when it is first needed.

    Args:
        address: ``host`` or ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._patience_s = 0.0

    def close(self) -> None:
        """Hang up, if there is a connection. Places that were not given back stay taken."""
        with self._lock:
            manager = RemotePlaceManager.get()
            if self._session is not None and manager.session is self._session:
                manager.session = manager.loop = None  # who uses labgrid after us connects anew
            self._drop()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def acquire(self, name: str) -> bool:
        """Take a place; False where somebody else has it.

        Returns whether the place is ours to use; see :meth:`is_ours` for whose it was.

        Raises:
            NotExported: an exporter of it is gone.
            UsageError: there is no such place.
            Unreachable: the coordinator does not answer.
        """

        async def acquire(session: _Session) -> bool:
            place = session.find(name)
            session.require_exported(place)
            if place.acquired is None:
                await session.stub.AcquirePlace(wire.AcquirePlaceRequest(placename=place.name))
                await session.sync_with_coordinator()
            return bool(place.acquired == session.user or session.user in place.allowed)

        try:
            return self._ask(acquire)
        except _InTheWay:  # of another client's, or an exporter that does not do its part
            return False

    def is_ours(self, name: str) -> bool:
        """Say whether the place is taken, by us, now."""

        async def look(session: _Session) -> bool:
            return bool(session.find(name).acquired == session.user)

        return self._ask(look)

    def release(self, name: str) -> None:
        """Give a place back; one that is not ours stays as it is.

        Raises:
            Unreachable: the coordinator does not answer; it forgets who had what when it restarts.
        """

        async def release(session: _Session) -> None:
            place = session.find(name)
            request = wire.ReleasePlaceRequest(placename=place.name, fromuser=session.user)
            await session.stub.ReleasePlace(request)
            await session.sync_with_coordinator()

        self._ask(release)

    def check(self, name: str) -> None:
        """Refuse a place that has lost its exporter.

        Raises:
            NotExported, Unreachable: as for :meth:`acquire`.
        """

        async def check(session: _Session) -> None:
            session.require_exported(session.find(name))

        self._ask(check)

    def run(self, work: Callable[[], Answer]) -> Answer:
        """Do short work of labgrid's on our loop, where what it reads does not change meanwhile."""

        async def on_loop(_session: _Session) -> Answer:
            return work()

        return self._ask(on_loop)

    # The connection

    def _ask(self, question: Callable[[_Session], Coroutine[Any, Any, Answer]]) -> Answer:
        """Ask, and once more where the connection turns out to be lost."""
        with self._lock:
            for attempt in (1, 2):
                session = self._connected()
                try:
                    return self._await(question(session), _ANSWER_S)
                except TimeoutError as error:
                    raise self._silent("does not answer") from error
                except ServerError as error:
                    raise BoardProblem(_text(error)) from error
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise _problem(error) from error
                    if attempt == 2:
                        raise self._silent(error.details() or "went away") from error
                    session.stopping.set()
        raise AssertionError("unreachable")

    def _connected(self) -> _Session:
        """Return a session that was alive a moment ago; wait for a coordinator that was there."""
        if self._session is not None and not self._session.stopping.is_set():
            return self._session
        self._drop()
        give_up = time.monotonic() + self._patience_s
        while True:
            try:
                session = self._await(self._connect(), _CONNECT_S)
                break
            except (ServerError, TimeoutError, grpc.aio.AioRpcError) as error:
                if time.monotonic() >= give_up:
                    self._patience_s = 0.0  # who comes next need not wait as long again
                    raise self._silent("does not answer") from error
                time.sleep(_RETRY_S)
        self._session = session
        self._patience_s = _BACK_WITHIN_S
        manager = RemotePlaceManager.get()
        manager.session, manager.loop = session, self._loop
        return session

    async def _connect(self) -> _Session:
        address = proxymanager.get_grpc_address(self.address, default_port=_PORT)
        session = _Session(address, asyncio.get_running_loop())
        await session.use_a_connection_of_its_own()
        try:
            await session.start()
        except BaseException:
            await session.close()
            raise
        return session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.stopping.set()
            try:
                self._await(_close(session), _CONNECT_S)
            except (TimeoutError, grpc.aio.AioRpcError):
                return  # it is gone, that is all we want

    def _await(self, work: Coroutine[Any, Any, Answer], timeout_s: float) -> Answer:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run_for_ever, args=(self._loop,), daemon=True).start()
        waiting = asyncio.wait_for(work, timeout_s)
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result()

    def _silent(self, what: str) -> Unreachable:
        return Unreachable(
            f"the labgrid coordinator at {self.address} {what}: start it with `labgrid-coordinator`"
            ", or name another by --lg-coordinator"
        )


class _InTheWay(HandfastError):
    """The coordinator says that it cannot be done now."""


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _close(session: _Session) -> None:
    await session.stop()
    await session.close()


def _problem(error: Any) -> HandfastError:
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return _InTheWay(error.details())
    return BoardProblem(f"the labgrid coordinator refuses: {error.details()}")


def _text(error: Exception) -> str:
    return " ".join(map(str, error.args))
