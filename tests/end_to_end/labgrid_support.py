"""A labgrid of one's own: coordinator and exporters, real ones, on loopback."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import grpc
import yaml
from labgrid.remote.generated import labgrid_coordinator_pb2 as wire
from labgrid.remote.generated.labgrid_coordinator_pb2_grpc import CoordinatorStub

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
START_S = 60.0
ANSWER_S = 60.0
CLIENT = Path(sys.executable).with_name("labgrid-client")


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LG_", "PYTEST"))}
    return kept | {"PYTHONPATH": str(ROOT / "host"), "PYTHONUNBUFFERED": "1"}


class Process:
    """A process whose output is kept, ended by its pid; ``path`` comes first in its PATH."""

    def __init__(self, command: Sequence[object], folder: Path, log: Path, path: str) -> None:
        self.log = log
        self._output = log.open("ab")
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=environment() | {"PATH": f"{path}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._output,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader: threading.Thread | None = None

    def wait_for(self, start: str) -> str:
        """The first line that begins so; the rest is read so that nobody waits to print."""
        stdout = self._process.stdout
        assert stdout is not None
        give_up = time.monotonic() + START_S
        received = b""
        while time.monotonic() < give_up:
            if select.select([stdout], [], [], 0.5)[0]:
                piece = os.read(stdout.fileno(), 65536)
                self._output.write(piece)
                self._output.flush()
                received += piece
                for line in received.decode().splitlines():
                    if line.startswith(start):
                        self._reader = threading.Thread(target=self._drain, daemon=True)
                        self._reader.start()
                        return line
                if not piece:
                    break
        raise AssertionError(f"no {start!r}; it said:\n{self.log.read_text()[-3000:]}")

    def _drain(self) -> None:
        stdout = self._process.stdout
        while stdout is not None and (piece := os.read(stdout.fileno(), 65536)):
            self._output.write(piece)
            self._output.flush()

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def wait(self, timeout_s: float = START_S) -> int:
        return self._process.wait(timeout_s)

    def end(self) -> None:
        """End it, and what it has left behind: an exporter that is killed leaves its ser2net."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        if self._reader is not None:
            self._reader.join()
        with suppress(OSError):
            self._output.close()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Labgrid:
    """A coordinator, its places, and exporters that can be started and killed.

    Args:
        folder: where everything is kept.
        exporters: name → groups, as their configuration has them; each group is a place, too.
        path: a folder of programs that exporters find first.
        options: of the exporters.
    """

    def __init__(
        self,
        folder: Path,
        exporters: Mapping[str, Mapping[str, object]],
        path: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._path, self._options = str(path or folder), options
        self.exporters = exporters
        self.processes: dict[str, Process] = {}
        self.address = f"{LOOPBACK}:0"
        self.places = [group for groups in exporters.values() for group in groups]
        state = folder / "coordinator"
        state.mkdir(parents=True)
        # What the coordinator itself keeps of `labgrid-client create` and `add-match`.
        kept = {name: {"matches": [match(name)]} for name in self.places}
        (state / "places.yaml").write_text(yaml.safe_dump(kept))
        for name, groups in exporters.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(groups))

    def __enter__(self) -> Self:
        try:
            self.start_coordinator()
            self.start_exporters(*self.exporters)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            process.end()

    def start_coordinator(self) -> None:
        command = [sys.executable, "-m", "labgrid.remote.coordinator", "-l", self.address]
        process = self._start("coordinator", command, self.folder / "coordinator")
        self.address = process.wait_for("listening on").split()[-1]

    def start_exporters(self, *names: str) -> None:
        for name in names:
            command = [sys.executable, "-m", "handfast.lab.labgrid.exporter", "-n", name]
            command += ["-c", self.address, "--hostname", LOOPBACK, *self._options, f"{name}.yaml"]
            self._start(name, command, self.folder)
        for name in names:
            self.processes[name].wait_for("Exporter ready")
        # It says so when the coordinator has greeted it; what it exports comes after that.
        give_up = time.monotonic() + START_S
        expected = {(name, group) for name in names for group in self.exporters[name]}
        while missing := expected - self.exported():
            assert time.monotonic() < give_up, f"not exported: {missing}"
            time.sleep(0.05)

    def _start(self, name: str, command: Sequence[object], folder: Path) -> Process:
        if name in self.processes:
            self.processes[name].end()
        process = self.processes[name] = Process(
            command, folder, self.folder / f"{name}.log", self._path
        )
        return process

    def client(self, *words: str, **variables: str) -> str:
        done = subprocess.run(
            [CLIENT, *words],
            env=environment() | {"LG_COORDINATOR": self.address} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def exported(self) -> set[tuple[str, str]]:
        """(exporter, group) of what the coordinator knows to be available now."""
        answered = threading.Event()

        def ask() -> Iterator[wire.ClientInMessage]:
            yield wire.ClientInMessage(startup=wire.StartupDone(version="", name="tests/tests"))
            yield wire.ClientInMessage(subscribe=wire.Subscribe(all_resources=True))
            yield wire.ClientInMessage(sync=wire.Sync(id=1))
            answered.wait(ANSWER_S)

        # A connection of its own: the coordinator tells clients apart by theirs.
        own = [("grpc.use_local_subchannel_pool", 1)]
        found: dict[tuple[str, str], bool] = {}
        with grpc.insecure_channel(self.address, options=own) as channel:
            stream = CoordinatorStub(channel).ClientStream(ask(), timeout=ANSWER_S)
            for message in stream:
                for update in message.updates:
                    if update.HasField("resource"):
                        path = update.resource.path
                        found[path.exporter_name, path.group_name] = update.resource.avail
                if message.HasField("sync"):
                    answered.set()
                    break
            stream.cancel()
        return {where for where, available in found.items() if available}

    def acquired(self) -> dict[str, str]:
        """Place → by whom."""
        with grpc.insecure_channel(self.address) as channel:
            reply = CoordinatorStub(channel).GetPlaces(wire.GetPlacesRequest(), timeout=ANSWER_S)
        return {place.name: place.acquired for place in reply.places if place.acquired}

    def release_all(self) -> None:
        """Give back whatever anybody holds."""
        held = self.acquired()
        with grpc.insecure_channel(self.address) as channel:
            for name in held:
                request = wire.ReleasePlaceRequest(placename=name)
                CoordinatorStub(channel).ReleasePlace(request, timeout=ANSWER_S)

    def environment_file(self, name: str, places: Sequence[str], drivers: str) -> Path:
        """A file for --lg-env with a target for each place, all with the same drivers."""
        path = self.folder / name
        path.write_text(
            "imports: [handfast.lab.labgrid]\n"
            f"options: {{coordinator_address: '{self.address}'}}\n"
            "targets:\n"
            + "".join(
                f"  {place}:\n    resources:\n      RemotePlace: {{name: {place}}}\n"
                f"    drivers: {drivers}\n"
                for place in places
            )
        )
        return path


def match(name: str) -> dict[str, str | None]:
    return {"exporter": "*", "group": name, "cls": "*", "name": None, "rename": None}


def simulated(*names: str) -> dict[str, object]:
    """An exporter's configuration: a simulated board for each name."""
    return {name: {"SimulatedBoard": {"profile": "sim-pico-w", "hardware": name}} for name in names}


SIMULATED_DRIVERS = "[SimulatedBoardDriver: {}, MicroPythonDriver: {board: sim-pico-w}]"
