"""`make bench-emulated`: what the device library costs a Cortex-M3, in its own instructions.

QEMU runs qemu-mps2 with `-icount shift=0`: each instruction takes a nanosecond of the machine's
time. The firmware counts that time, less what it spends waiting for an interrupt (boards/qemu-mps2,
interrupts.c): what is left are the instructions that it executed, to the 40 of a tick of its
counter. What one operation costs is the difference of two runs, one that does it and one that
does not, each in a fresh heap; of a first call the least of three, since each time that the machine
looks up from waiting adds a little. That waiting does not count is shown by a gateway that answers
late.

A resumed handshake is counted on firmware built with `session-resumption`, at the gateway's
listener for it: connections one after another, each resuming the one before, the difference of 13
and one of them. What is bounded is that by the board's `tls` alone in a heap that is collected as
boot.py has it. Told beside it: the same without collections, as the library has it during a
handshake, and a connection of the whole client's on a board as it is, resumed and full.

Writes benchmarks/out/emulated.json, and ends with exit code 1 if a figure is above its
bound, or waiting was counted.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks.bounds import at_most, missed
from handfast.admin_client import AdminClient
from handfast.boards.device_error import DeviceError
from handfast.boards.provision import provision
from handfast.boards.qemu_mps2 import QemuMps2Board
from handfast.boards.qemu_mps2_build import BOARD, build_qemu_mps2
from handfast.boards.serial_link import SerialLink
from handfast.boards.virtual import boards_at
from handfast.errors import CheckFailed, HandfastError
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.relay import Relay
from handfast.pki.authorities import create_authorities
from handfast.resources import firmware_dir
from handfast.state import StateDir

OUT = Path(__file__).parent / "out" / "emulated.json"
_SCRIPTS = Path(__file__).parent / "device_scripts"
_STORE = "/mtls"
_SCRIPT_S = 300.0
_WARM_CALLS = 20
_CYCLE_CALLS = 20
_FIRST_CALLS = 3
_RESUMED = 12  # enough that a collection of the heap more or less does not show
_RESUMING = ("session-resumption",)
# What makes keys, as source: applications have no use for it, and a board has other names in it.
_KEY_SOURCES = ("__init__", "errors", "der", "drbg", "entropy", "p256", "_p256_table", "keys")
_LEAST_HEAP_KB, _MOST_HEAP_KB = 32, 184
_LATE_S = 0.3  # in each direction, of everything
_LATE_DIFFERENCE = 0.02  # of the instructions: what looking up from a wait now and then comes to
# What is asked for at most; a figure that is not here is told.
BOUNDS: Mapping[str, int | None] = {
    "first_handshake_get_instructions": 50_000_000,
    "resumed_handshake_instructions": 2_500_000,
}

_NETWORK_UP = """
import network, time
_lan = network.LAN()
_lan.active(True)
while not _lan.isconnected():
    time.sleep_ms(5)
"""
# What `tls` takes alone is counted in a heap that it has to itself, and without the application's
# gc.threshold (firmware/app/boot.py), which the library puts aside during a handshake.
_EMPTY_HEAP = "import gc\ngc.threshold(-1)\n"
# Figure → script, what it does with sessions, and what runs before it.
_RESUMPTIONS = {
    "resumed_handshake_instructions": ("resume_tls.py", "resumed", ""),
    "resumed_handshake_uncollected_instructions": ("resume_tls.py", "resumed", _EMPTY_HEAP),
    "client_resumed_handshake_instructions": ("resume.py", "resumed", ""),
    "client_full_handshake_instructions": ("resume.py", "full", ""),
}
_PAIR = """
from mtls.store import Store
_s = Store()
_i = _s.identity(_s.current())
for _n, _c in (('leaf', _i.cert_der), ('key', _i.key().to_der())):
    with open('/' + _n + '.der', 'wb') as _f:
        _f.write(_c)
import os
print(['/mtls/anchor/' + n for n in os.listdir('/mtls/anchor') if n.startswith('tls-')][0])
"""
Tell = Callable[[str], None]


class Bench:
    """A gateway, and a board that has enrolled there.

    Args:
        folder: for all that is written.
        state: of the gateway.
        gateway: running.
        tell: is told what is being measured.
    """

    def __init__(self, folder: Path, state: StateDir, gateway: GatewayProcess, tell: Tell) -> None:
        self._folder = folder
        self._state = state
        self._gateway = gateway
        self._tell = tell
        self._enrolled = folder / "enrolled.img"
        self._new = folder / "new.img"
        self._prepare()

    def _prepare(self) -> None:
        self._tell("a board is provisioned and enrols")
        with self._board("first") as (board, link):
            link.close()
            provision(board.serial_url, gateway=self._gateway.admin, device_id="bench", start=False)
            board.power_off()
            shutil.copy(board.flash_image, self._new)
            board.power_on(rtc=int(time.time()))
            with SerialLink.open(board.serial_url) as again:
                _run(again, "enrol.py", _STORE)
            board.power_off()
            shutil.copy(board.flash_image, self._enrolled)

    @contextmanager
    def _board(
        self,
        name: str,
        image: Path | None = None,
        *,
        heap_kb: int | None = None,
        count: bool = False,
        options: Sequence[str] = (),
    ) -> Iterator[tuple[QemuMps2Board, SerialLink]]:
        """Lay out a board that runs, and its serial line; both are gone at the end."""
        folder = self._folder / name
        folder.mkdir()
        if image is not None:
            shutil.copy(image, folder / "flash.img")
        with QemuMps2Board(
            directory=folder, heap_kb=heap_kb, options=options, counts_instructions=count
        ) as board:
            board.power_on(rtc=int(time.time()))
            with SerialLink.open(board.serial_url) as link:
                yield board, link
        shutil.rmtree(folder)

    def instructions(self) -> dict[str, int]:
        """Return what is counted in instructions, waiting excluded, and what shows that it is."""
        api = self._gateway.admin.trust()["api_url"]
        with self._board("counting", self._enrolled, count=True) as (_, link):

            def calls(number: int, url: str = api) -> int:
                return _run(link, "calls.py", _STORE, url, str(number))

            self._tell("first call and warm calls")
            none = min(calls(0) for _ in range(_FIRST_CALLS))
            one = min(calls(1) for _ in range(_FIRST_CALLS))
            many = calls(1 + _WARM_CALLS)
            self._tell("a call to a gateway that answers late")
            late = self._late_call(calls) - none
            self._tell("a call by tls alone")
            bare = self._bare_call(link, api)
            self._tell("keys and CSRs")
            keys = self._keys(link)
        return {
            "key_and_csr_instructions": (keys[1] - keys[0]) // 4,
            "first_handshake_get_instructions": one - none,
            "warm_get_instructions": (many - one) // _WARM_CALLS,
            "bare_handshake_get_instructions": bare,
            "late_handshake_get_instructions": late,
            **self.resumptions(),
        }

    def _keys(self, link: SerialLink) -> list[int]:
        """Return what one key with its CSR and five take; leaves source on the board."""
        link.soft_reset()
        library = firmware_dir() / "mtls"
        link.push({f"/lib/mtls/{n}.py": (library / f"{n}.py").read_bytes() for n in _KEY_SOURCES})
        return [_run(link, "key_and_csr.py", number) for number in ("1", "5")]

    def resumptions(self) -> dict[str, int]:
        """Return what a connection takes that resumes a session, and one that does not."""
        self._tell("resumed handshakes")
        host = str(urlsplit(self._gateway.admin.trust()["api_url"]).hostname)
        port = str(urlsplit(self._gateway.urls["api-resume"]).port)
        example = (firmware_dir() / "examples" / "resumption.py").read_bytes()
        with self._board("resuming", self._enrolled, count=True, options=_RESUMING) as (_, link):
            link.push({"/lib/resumption.py": example})

            def each(script: str, kind: str, first: str) -> int:
                where = (host, port) if script == "resume_tls.py" else (f"https://{host}:{port}",)
                counted = []
                for more in (0, _RESUMED):
                    given = (_STORE, *where, str(1 + more), kind)
                    says = str(more if kind == "resumed" else 0)
                    counted.append(_run(link, script, *given, first=first, says=says))
                return (counted[1] - counted[0]) // _RESUMED

            return {figure: each(*how) for figure, how in _RESUMPTIONS.items()}

    def _late_call(self, calls: Callable[[int, str], int]) -> int:
        target = AdminClient(self._state).trust()["api_url"]
        with Relay(target, named=self._gateway.boards_at) as relay:
            relay.shape(latency_s=_LATE_S)
            return calls(1, relay.url)

    def _bare_call(self, link: SerialLink, api: str) -> int:
        anchor = link.exec(_PAIR).strip()
        to = urlsplit(api)
        files = (anchor, "/leaf.der", "/key.der")
        counted = [
            _run(link, "bare_call.py", str(to.hostname), port, *files, first=_EMPTY_HEAP)
            for port in ("0", str(to.port))
        ]
        return counted[1] - counted[0]

    def heap_peak_bytes(self) -> int:
        """Return the smallest heap in which a board enrols, calls and renews, to a kilobyte."""
        low, high = _LEAST_HEAP_KB, _MOST_HEAP_KB
        while low < high:
            middle = (low + high) // 2
            self._tell(f"a life in a heap of {middle} KB")
            if self._fits(middle):
                high = middle
            else:
                low = middle + 1
        return low * 1024

    def _fits(self, heap_kb: int) -> bool:
        name = f"heap-{heap_kb}"
        device = self._gateway.admin
        token = device.create_token("bench", lifetime_s=3600)["token"]
        try:
            with self._board(name, self._new, heap_kb=heap_kb) as (_, link):
                link.push({"/mtls/secret.json": json.dumps({"token": token}).encode()})
                _run(link, "cycle.py", _STORE, str(_CYCLE_CALLS))
        except DeviceError as error:
            shutil.rmtree(self._folder / name, ignore_errors=True)
            if not ran_out_of_heap(error):
                raise
            return False
        return True


def ran_out_of_heap(error: DeviceError) -> bool:
    """Say whether what a board raised is that its heap is too small."""
    if error.kind == "OSError":
        return "ENOMEM" in error.detail
    return error.kind in ("MemoryError", "OutOfMemory")


def _run(
    link: SerialLink, script: str, *arguments: str, first: str = "", says: str | None = None
) -> int:
    """Run a script in a fresh heap, its network up; returns the instructions it took.

    Raises:
        CheckFailed: what it printed is not what it ``says``.
    """
    link.soft_reset()
    link.exec(_NETWORK_UP + first, _SCRIPT_S)
    text = (_SCRIPTS / script).read_text()
    said = link.exec(
        f"import sys\nsys.argv[:] = {['', *arguments]!r}\nimport _mps2\n_from = _mps2.busy_ns()\n"
        f"{text}\nsys.argv[:] = [_mps2.busy_ns() - _from]",
        _SCRIPT_S,
    )
    if says is not None and said.strip() != says:
        raise CheckFailed(f"{script} says {said.strip()!r}, and not {says!r}")
    return int(link.exec("print(sys.argv[0])"))


def waiting_counted(figures: Mapping[str, int]) -> list[str]:
    """Return a sentence if a gateway that answers late costs other instructions: nothing if not."""
    prompt, late = (figures[f"{kind}_handshake_get_instructions"] for kind in ("first", "late"))
    if abs(late - prompt) <= _LATE_DIFFERENCE * prompt:
        return []
    return [
        f"a gateway that answers late costs {late:,} instructions, and {prompt:,} otherwise: "
        "waiting is counted"
    ]


def _show(console: Console, figures: Mapping[str, int]) -> None:
    table = Table("figure", "measured", "at most", title=f"The device library on {BOARD}")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}", at_most(name, value, BOUNDS))
    console.print(table)
    first, bare = (figures[f"{kind}_handshake_get_instructions"] for kind in ("first", "bare"))
    less = "more" if first > bare else "fewer"
    console.print(
        f"A first call by the client takes {abs(first - bare):,} instructions {less} than one by "
        "tls alone in an empty heap. Instructions are the guest's, waiting excluded; what each "
        "figure is, is in docs/reference/boards.md."
    )


def measure(tell: Tell) -> dict[str, int]:
    """Return every figure."""
    with tempfile.TemporaryDirectory(prefix="handfast-bench-") as name:
        folder, passphrase = Path(name), secrets.token_hex(16).encode()
        state = StateDir(folder / "gateway")
        create_authorities(state, passphrase)
        options = GatewayOptions(boards_at=boards_at(BOARD), resume_port=0)
        with GatewayProcess(state, passphrase, options) as gateway:
            bench = Bench(folder, state, gateway, tell)
            return {**bench.instructions(), "heap_peak_bytes": bench.heap_peak_bytes()}


def main() -> int:
    """Measure, print, write the JSON; returns the exit code."""
    console = Console()
    try:
        with Console(stderr=True).status(BOARD) as status:
            for options in ((), _RESUMING):
                build_qemu_mps2(options=options, progress=status.update)
            figures = measure(lambda what: status.update(f"{BOARD}: {what}"))
        _show(console, figures)
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(figures, indent=2) + "\n")
    except HandfastError as error:
        console.print(f"bench-emulated: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    wrong = [f"missed: {what}" for what in missed(figures, BOUNDS)] + waiting_counted(figures)
    for what in wrong:
        console.print(f"bench-emulated: {what}", style="red", highlight=False)
    return CheckFailed.exit_code if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
