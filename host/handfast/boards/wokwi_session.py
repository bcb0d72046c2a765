"""One simulation in Wokwi's cloud, its serial monitor on a PTY: the one module that knows Wokwi.

``wokwi-client`` is asynchronous; its event loop runs in a thread of its own, and every call into it
has a deadline.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from websockets.exceptions import InvalidHandshake, InvalidStatusCode, WebSocketException
from wokwi_client import WokwiClient
from wokwi_client.exceptions import WokwiError

from handfast.errors import BoardProblem, HandfastError, Refused, Unreachable

_CONNECT_S: Final = 30.0
_CALL_S: Final = 30.0
_UPLOAD_S: Final = 120.0  # of a whole flash chip
_CLOSE_S: Final = 10.0
_PRESSED_S: Final = 0.2
_READ_BYTES: Final = 4096
# What a board says while nobody reads its line; older output is dropped, as a USB bridge does.
_MOST_UNREAD: Final = 1 << 16
_UNAUTHORISED: Final = (401, 403)

Answer = TypeVar("Answer")

# What it warns of is raised as well, in words for people.
warnings.filterwarnings("ignore", message="Background recv error", module="wokwi_client")


class WokwiSession:
    """A simulation from :meth:`start` to :meth:`close`.

    Args:
        token: of the Wokwi account.
        server: the API's address; None for wokwi-client's own choice.
        line: the master end of the board's PTY; it stays the caller's.
    """

    def __init__(self, token: str, server: str | None, line: int) -> None:
        self._client = WokwiClient(token, server)
        self._line = line
        self._unread = bytearray()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._lost = False
        self._sender: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="Wokwi", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether nothing speaks against its running: a lost connection shows when it is used."""
        return self._sender is not None and not self._lost and not self._loop.is_closed()

    def start(self, *, diagram: str, firmware_name: str, firmware: bytes) -> None:
        """Connect, hand over the files, and begin.

        Raises:
            Refused: the token is not taken.
            Unreachable: nobody answers.
            BoardProblem: Wokwi does not begin the simulation.
        """
        self._call(self._client.connect(), _CONNECT_S)
        self._call(self._client.upload_text("diagram.json", diagram), _UPLOAD_S)
        self.upload(firmware_name, firmware)
        # Paused, so that nothing is said before someone listens.
        begin = self._client.start_simulation(firmware=firmware_name, elf=firmware_name, pause=True)
        self._call(begin, _CALL_S)
        self._call(self._open_line(), _CALL_S)
        self._call(self._client.resume_simulation(), _CALL_S)

    def press(self, part: str) -> None:
        """Press a push-button and let go of it.

        Raises:
            BoardProblem: Wokwi refused, or the connection is lost.
        """
        self._call(self._press(part), _CALL_S)

    def restart(self) -> None:
        """Begin the simulation again from the files that it has.

        Raises:
            BoardProblem: Wokwi refused, or the connection is lost.
        """
        self._call(self._client.restart_simulation(), _CALL_S)

    def upload(self, name: str, content: bytes) -> None:
        """Give it a file."""
        self._call(self._client.upload(name, content), _UPLOAD_S)

    def download(self, name: str) -> bytes:
        """Return a file of it."""
        return bytes(self._call(self._client.download(name), _UPLOAD_S))

    def close(self) -> None:
        """Disconnect, which ends the simulation; a second time does nothing."""
        if self._loop.is_closed():
            return
        with suppress(HandfastError):
            self._call(self._disconnect(), _CLOSE_S)
        # By itself: a deadline around it would be one of the tasks that it ends.
        asyncio.run_coroutine_threadsafe(_end_other_tasks(), self._loop).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    # ---- On the loop ----

    async def _open_line(self) -> None:
        os.set_blocking(self._line, False)
        self._client.serial_monitor(self._receive)
        self._sender = asyncio.create_task(self._send())
        self._loop.add_reader(self._line, self._read_line)

    def _receive(self, said: bytes) -> None:
        self._unread += said
        del self._unread[: max(0, len(self._unread) - _MOST_UNREAD)]
        self._write_line()

    def _write_line(self) -> None:
        with suppress(OSError):  # nobody reads, or the line is taken away
            written = os.write(self._line, self._unread)
            del self._unread[:written]
        if self._unread:
            self._loop.add_writer(self._line, self._write_line)
        else:
            self._loop.remove_writer(self._line)

    def _read_line(self) -> None:
        try:
            typed = os.read(self._line, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            typed = b""
        if typed:
            self._outgoing.put_nowait(typed)
        else:
            self._loop.remove_reader(self._line)

    async def _send(self) -> None:
        """Pass on what clients type, in its order."""
        while True:
            typed = await self._outgoing.get()
            try:
                await asyncio.wait_for(self._client.serial_write(typed), _CALL_S)
            except (WokwiError, WebSocketException, OSError, RuntimeError, TimeoutError):
                self._lost = True
                return

    async def _press(self, part: str) -> None:
        await self._client.set_control(part, "pressed", 1)
        await asyncio.sleep(_PRESSED_S)
        await self._client.set_control(part, "pressed", 0)

    async def _disconnect(self) -> None:
        self._loop.remove_reader(self._line)
        self._loop.remove_writer(self._line)
        await self._client.disconnect()

    # ---- From outside ----

    def _call(self, work: Coroutine[Any, Any, Answer], timeout_s: float) -> Answer:
        """Run a coroutine on the loop; its failure is told in our words."""
        bounded = asyncio.wait_for(work, timeout_s)
        try:
            return asyncio.run_coroutine_threadsafe(bounded, self._loop).result()
        except InvalidStatusCode as error:
            if error.status_code in _UNAUTHORISED:
                raise Refused("Wokwi does not take the token: make another and set it") from error
            raise Unreachable(f"Wokwi's server answers {error.status_code}") from error
        except (InvalidHandshake, ConnectionError) as error:
            raise Unreachable(f"Wokwi's server does not answer: {error}") from error
        except TimeoutError as error:
            raise Unreachable(f"Wokwi did not answer within {timeout_s:g} s") from error
        except WokwiError as error:
            # wokwi-client 0.5 closes the connection at the first error that it is told.
            self._lost = True
            raise BoardProblem(f"Wokwi refused: {error}") from error
        except (WebSocketException, OSError, RuntimeError) as error:
            self._lost = True
            raise BoardProblem(f"the connection to Wokwi is lost: {error}") from error


async def _end_other_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
