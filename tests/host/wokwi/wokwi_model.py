"""A model of Wokwi's simulation API, written from the source of wokwi-client 0.5.1 alone.

What stands for the emulated chip is a simulated board of ours: MicroPython answers on its serial
line, and a reset or a restart happens to it. What the cloud does that its client does not show is
not modelled: time, the network, the parts of a circuit but a button on the chip's reset pin.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from websockets.legacy.server import WebSocketServerProtocol, serve

from handfast.boards.builder import build_simulator
from handfast.boards.simulator import SimulatedBoard

TOKEN = "a-token"
_READ_BYTES = 4096
_RESET_PINS = ("EN", "RST", "RUN")


class Refusal(Exception):
    """What the server answers a command with that it does not carry out."""


class WokwiModel:
    """A server on loopback for one client after another; a context manager.

    Args:
        folder: where the boards behind it keep their flash.
        profile: the simulated board that stands for the chip.
    """

    def __init__(self, folder: Path, profile: str = "sim-esp32") -> None:
        self.folder = folder
        self.profile = profile
        self.url = ""
        self.commands: list[str] = []
        self.sessions: list[_Session] = []
        self.refused: dict[str, str] = {}
        self.mute: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Any = None

    def __enter__(self) -> WokwiModel:
        build_simulator(self.profile)  # not while a client waits
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def session(self) -> _Session:
        """The last client's."""
        return self.sessions[-1]

    def drop(self) -> None:
        """Lose the connection to the last client, without a word."""
        self._loop.call_soon_threadsafe(self.session.socket.transport.abort)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._admit, max_size=1 << 26
        )
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _shut(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        for session in self.sessions:
            session.end()

    async def _admit(self, _path: str, headers: Any) -> Any:
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, [], b"no such token\n"
        return None

    async def _serve(self, socket: WebSocketServerProtocol) -> None:
        session = _Session(self, socket)
        self.sessions.append(session)
        try:
            await session.serve()
        finally:
            session.end()


class _Session:
    """What one client has uploaded and started."""

    def __init__(self, model: WokwiModel, socket: WebSocketServerProtocol) -> None:
        self.model = model
        self.socket = socket
        self.files: dict[str, bytes] = {}
        self.started: dict[str, Any] = {}
        self.pressed: list[str] = []
        self.board: SimulatedBoard | None = None
        self._line = -1
        self._listening = False
        self._number = 0

    async def serve(self) -> None:
        hello = {"type": "hello", "protocolVersion": 1, "appName": "model", "appVersion": "0"}
        await self.socket.send(json.dumps(hello))
        async for message in self.socket:
            request = json.loads(message)
            self.model.commands.append(request["command"])
            if request["command"] in self.model.mute:
                continue
            await self._answer(request)

    async def _answer(self, request: dict[str, Any]) -> None:
        command, answer = request["command"], {"type": "response", "id": request["id"]}
        try:
            if command in self.model.refused:
                raise Refusal(self.model.refused[command])
            handler = getattr(self, "on_" + command.replace(":", "_").replace("-", "_"), None)
            if handler is None:
                raise Refusal(f"unknown command {command}")
            result = handler(**request["params"]) or {}
            error = False
        except Refusal as refusal:
            result, error = {"code": 1, "message": str(refusal)}, True
        await self.socket.send(
            json.dumps({**answer, "command": command, "result": result, "error": error})
        )

    # ---- Commands ----

    def on_file_upload(self, name: str, binary: str = "", text: str | None = None) -> None:
        if "/" in name:
            raise Refusal(f"bad file name {name}")
        if name == "diagram.json" and text is None:
            raise Refusal("diagram.json must be text")  # says wokwi-client's upload_text
        content = base64.b64decode(binary) if text is None else text.encode()
        self.files[name] = content

    def on_file_download(self, name: str) -> dict[str, str]:
        if name not in self.files:
            raise Refusal(f"no file {name}")
        return {"binary": base64.b64encode(self.files[name]).decode()}

    def on_sim_start(self, firmware: str, pause: bool, **rest: Any) -> None:
        if "diagram.json" not in self.files:
            raise Refusal("no diagram.json")
        if firmware not in self.files:
            raise Refusal(f"no file {firmware}")
        if self.started:
            raise Refusal("already started")
        self.started = {"firmware": firmware, "pause": pause, **rest}
        if not pause:
            self._begin()

    def on_sim_resume(self, pauseAfter: int | None) -> None:
        if not self.started:
            raise Refusal("not started")
        if self.board is None:
            self._begin()

    def on_sim_restart(self, pause: bool) -> None:
        if self.board is None:
            raise Refusal("not started")
        self.end()
        self._begin()

    def on_serial_monitor_listen(self) -> None:
        self._listening = True

    def on_serial_monitor_write(self, bytes: list[int]) -> None:
        if self.board is None:
            raise Refusal("not started")
        # As many as the line takes; the board reads them at once.
        os.write(self._line, bytearray(bytes))

    def on_control_set(self, part: str, control: str, value: float) -> None:
        diagram = json.loads(self.files["diagram.json"])
        if part not in [one["id"] for one in diagram["parts"]]:
            raise Refusal(f"no part {part}")
        if control == "pressed" and value:
            self.pressed.append(part)
        wires = [set(ends[:2]) for ends in diagram["connections"]]
        on_reset = any(
            any(end.startswith(f"{part}:") for end in wire)
            and any(end.rpartition(":")[2] in _RESET_PINS for end in wire)
            for wire in wires
        )
        if on_reset and control == "pressed" and not value and self.board is not None:
            self.board.reset()

    # ---- The chip ----

    def _begin(self) -> None:
        self._number += 1
        number = f"{len(self.model.sessions)}-{self._number}"
        self.board = SimulatedBoard(self.model.profile, directory=self.model.folder / number)
        self._line = os.open(self.board.serial_url, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._line, self._hear)
        self.board.power_on()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            said = os.read(self._line, _READ_BYTES)
            if said and self._listening:
                event = {
                    "type": "event",
                    "event": "serial-monitor:data",
                    "payload": {"bytes": list(said)},
                    "nanos": 0,
                    "paused": False,
                }
                task = asyncio.ensure_future(self.socket.send(json.dumps(event)))
                task.add_done_callback(lambda done: done.exception())

    def end(self) -> None:
        """Switch the chip off."""
        if self.board is not None:
            with suppress(RuntimeError):  # the loop has ended
                asyncio.get_running_loop().remove_reader(self._line)
            os.close(self._line)
            self.board.close()
            self.board = None
