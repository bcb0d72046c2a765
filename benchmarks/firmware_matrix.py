"""`make firmware-matrix`: what each build option costs in flash and RAM, and that its build boots.

Each option is built for the emulated RP2040 by itself, then all together, from the pinned sources,
and asked in the emulator whether it has what it is to have. Sizes are the sections' as `size` tells
them: flash holds text and data, RAM data and bss. An option's RAM is what it leaves less of
MicroPython's heap, where that was asked for: the C stack counts too. Writes
benchmarks/out/firmware-matrix.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from handfast.boards.builder import build_simulator
from handfast.boards.firmware_options import ALL, OPTIONS
from handfast.boards.rp2040 import EmulatedRp2040
from handfast.boards.rp2040_build import BOARD, build_firmware, elf_of
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem, EnvironmentProblem, HandfastError

OUT = Path(__file__).parent / "out" / "firmware-matrix.json"
SIMULATOR = "sim-pico-w"
# What a build has that the option was in, as an expression on the board.
EVIDENCE = {
    "tls13": "'TLS1-3-AES-128-GCM-SHA256' in tls.SSLContext(0).get_ciphers()",
    "secure-element": "hasattr(tls.SSLContext(0), 'ecdsa_sign_callback')",
    "session-resumption": "hasattr(tls, 'SSLSession')",
    "settrace": "hasattr(sys, 'settrace')",
    "frozen-mtls": "mtls.__file__.startswith('mtls/')",
}
# fast-mbedtls adds nothing that a board could be asked for: its image has mbedTLS's assembly for
# Thumb-1, which multiplies a word (mbedTLS 3.6.6, library/bn_mul.h, MULADDC_X1_CORE):
# ldmia r0!, {r6}; lsrs r7, r6, #16; lsls r6, r6, #16; lsrs r6, r6, #16;
# mov r4, r8; muls r4, r6; mov r3, r9; muls r6, r3
_ASSEMBLY = bytes.fromhex("40c8 370c 3604 360c 4446 7443 4b46 5e43")
_BOOT_S = 60.0
_SIZE_S = 30.0


@dataclass(frozen=True, slots=True)
class Build:
    """One build; ``heap_bytes`` is None where it was not booted, 0 where that failed."""

    board: str
    options: tuple[str, ...]
    text_bytes: int
    data_bytes: int
    bss_bytes: int
    heap_bytes: int | None

    @property
    def booted(self) -> bool | None:
        """Whether it boots and has what it is to have; None where it was not tried."""
        return None if self.heap_bytes is None else bool(self.heap_bytes)

    @property
    def flash_bytes(self) -> int:
        """What is stored in flash: code, constants, and what variables begin with."""
        return self.text_bytes + self.data_bytes

    @property
    def ram_bytes(self) -> int:
        """What is taken of the RAM before the heap has the rest."""
        return self.data_bytes + self.bss_bytes


def selections() -> list[tuple[str, ...]]:
    """Return stock, each option by itself, and all that firmware in use may have."""
    return [(), *((name,) for name in OPTIONS), ALL]


def measure(board: str, options: Sequence[str], folder: Path, *, boot: bool) -> Build:
    """Build for a board, read the sizes, and boot it if asked."""
    progress = Console(stderr=True).print
    if board == SIMULATOR:
        program = build_simulator(SIMULATOR, options=options, progress=progress)
        return Build(board, tuple(options), *_sections("size", program), None)
    uf2 = build_firmware(options=options, progress=progress)
    heap = boot_heap(uf2, options, folder) if boot else None
    return Build(board, tuple(options), *_sections("arm-none-eabi-size", elf_of(uf2)), heap)


def boot_heap(uf2: Path, options: Sequence[str], folder: Path) -> int:
    """Boot it in the emulated chip; return the size of MicroPython's heap.

    It is 0 where it does not boot, or has not exactly what these options add.
    """
    if is_fast(uf2) != ("fast-mbedtls" in options):
        Console(stderr=True).print(f"{'+'.join(options) or 'stock'}: wrong code in mbedTLS")
        return 0
    asked = ", ".join(EVIDENCE.values())
    code = (
        "import sys, tls\ntry:\n import mtls\nexcept ImportError:\n class mtls:\n  __file__ = ''\n"
        f"import gc\nprint([{asked}])\nprint(gc.mem_free() + gc.mem_alloc())"
    )
    with EmulatedRp2040(directory=folder, name="matrix", network=False) as chip:
        chip.install_firmware(uf2)
        chip.power_on()
        try:
            with SerialLink.open(chip.serial_url) as link:
                link.interrupt(timeout_s=_BOOT_S)
                said = link.exec(code, timeout_s=_BOOT_S)
        except BoardProblem as error:
            Console(stderr=True).print(f"{'+'.join(options) or 'stock'}: {error}")
            return 0
    has, heap = said.splitlines()
    return int(heap) if has == str([name in options for name in EVIDENCE]) else 0


def is_fast(uf2: Path) -> bool:
    """Say whether an image's mbedTLS multiplies in assembly."""
    return _ASSEMBLY in elf_of(uf2).read_bytes()


def _sections(tool: str, elf: Path) -> tuple[int, int, int]:
    if shutil.which(tool) is None:
        raise EnvironmentProblem(f"{tool} is missing: run `apt install binutils` (as root)")
    done = subprocess.run([tool, elf], capture_output=True, text=True, timeout=_SIZE_S, check=True)
    text, data, bss = done.stdout.splitlines()[1].split()[:3]
    return int(text), int(data), int(bss)


def ram_cost(build: Build, stock: Build) -> int:
    """Return how many octets of RAM more than stock a build takes."""
    if build.heap_bytes and stock.heap_bytes:
        return stock.heap_bytes - build.heap_bytes
    return build.ram_bytes - stock.ram_bytes


def show(builds: Sequence[Build]) -> None:
    """Print the table, each build against the first."""
    stock = builds[0]
    columns = ("build", "text", "data", "bss", "flash", "RAM", "boots")
    table = Table(*columns, title=f"What build options cost ({stock.board})")
    for build in builds:
        name = "all" if build.options == ALL else "+".join(build.options) or "stock"
        sections = (build.text_bytes, build.data_bytes, build.bss_bytes)
        costs = (build.flash_bytes - stock.flash_bytes, ram_cost(build, stock))
        shown = [f"{size:,}" for size in sections]
        shown += ["" if build is stock else f"{cost:+,}" for cost in costs]
        table.add_row(name, *shown, {True: "yes", False: "NO", None: ""}[build.booted])
    Console().print(table)


def main() -> int:
    """Build all, print, write the JSON; 1 when a build does not boot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", choices=[BOARD, SIMULATOR], default=BOARD)
    parser.add_argument("--no-boot", action="store_true", help="sizes only")
    arguments = parser.parse_args()
    builds = []
    try:
        for number, options in enumerate(selections()):
            with tempfile.TemporaryDirectory(prefix="handfast-matrix-") as folder:
                place = Path(folder) / str(number)
                builds.append(measure(arguments.board, options, place, boot=not arguments.no_boot))
    except HandfastError as error:
        Console(stderr=True).print(f"firmware-matrix: {error}")
        return error.exit_code
    show(builds)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(build) for build in builds], indent=2) + "\n")
    return int(any(build.booted is False for build in builds))


if __name__ == "__main__":
    sys.exit(main())
