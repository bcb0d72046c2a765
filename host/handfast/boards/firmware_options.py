"""What a build of MicroPython may have that stock firmware lacks, each by its own name.

What an option changes is in boards/custom, once for every board: patches of pinned sources, and
what make, cmake and the compiler include, which reads the names from ``HANDFAST_OPTIONS``. Here is
only what a builder has to know before it runs make or cmake.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handfast.boards.frozen_library import MARK, mark
from handfast.boards.products import files_hash
from handfast.errors import EnvironmentProblem, UsageError
from handfast.resources import boards_dir, firmware_dir

BuildSystem = Literal["make", "cmake"]

_PATCH_TIMEOUT_S = 60
_MBEDTLS = "mbedtls"  # what any build system includes
_SEPARATORS: Mapping[BuildSystem, str] = {"make": " ", "cmake": ";"}


@dataclass(frozen=True, slots=True)
class FirmwareOption:
    """One thing to add to a build.

    Attributes:
        about: what a user gets, in a few words.
        patches: files below boards/custom/patches; the folder names the tree that they are for.
        freezes_library: the device library becomes a part of the firmware.
    """

    about: str
    patches: tuple[str, ...] = ()
    freezes_library: bool = False


OPTIONS: Mapping[str, FirmwareOption] = {
    "tls13": FirmwareOption(
        "TLS 1.3 beside TLS 1.2",
        patches=(
            "micropython/tls13-ciphers.patch",
            "micropython/psa-over-resets.patch",
            "mbedtls/rsa-pss-in-tls12.patch",
        ),
    ),
    "secure-element": FirmwareOption(
        "keys in a secure element: tls.SSLContext.ecdsa_sign_callback"
    ),
    "fast-mbedtls": FirmwareOption("mbedTLS for speed: -O2 and its assembly"),
    "session-resumption": FirmwareOption(
        "a TLS 1.2 session is resumed by its id: SSLSocket.session, wrap_socket(session=)",
        patches=("micropython/session-resumption.patch",),
    ),
    "settrace": FirmwareOption("sys.settrace; a simulated board notes the lines that it runs"),
    "frozen-mtls": FirmwareOption(
        "the device library is in the firmware, not on the filesystem", freezes_library=True
    ),
}

# All that firmware in use may have; `settrace` is for looking into programs, which it slows down.
ALL = tuple(sorted(set(OPTIONS) - {"settrace"}))


def custom_dir() -> Path:
    """Return the folder with what the options change, for any board."""
    return boards_dir() / "custom"


def checked(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted and each once.

    Raises:
        UsageError: there is no such option.
    """
    found = set(names)
    if strange := found - set(OPTIONS):
        raise UsageError(
            f"no build option {', '.join(sorted(strange))}; there are: {', '.join(OPTIONS)}"
        )
    return tuple(sorted(found))


def variables(names: Sequence[str], system: BuildSystem, work: Path) -> tuple[str, ...]:
    """Return the variables that the build system is given for these options.

    They name copies in ``work``: make takes no blanks in paths, and nothing may change half-way.
    """
    if not names:
        return ()
    custom, firmware = work / "custom", work / "firmware"
    for folder in (system, _MBEDTLS):
        shutil.copytree(custom_dir() / folder, custom / folder)
    shutil.copytree(firmware_dir() / "mtls", firmware / "mtls")
    (firmware / "mtls" / MARK).write_text(mark(firmware / "mtls"), encoding="utf-8")
    return (
        f"HANDFAST_OPTIONS={_SEPARATORS[system].join(names)}",
        f"HANDFAST_CUSTOM_DIR={custom}",
        f"HANDFAST_FIRMWARE_DIR={firmware}",
    )


def ingredients(names: Sequence[str], system: BuildSystem) -> tuple[str, ...]:
    """Return what of a product's key these options decide; nothing for a stock build."""
    if not names:
        return ()
    found = [*names, files_hash(custom_dir() / system, custom_dir() / _MBEDTLS)]
    for name in names:
        found += [(custom_dir() / "patches" / patch).read_text() for patch in OPTIONS[name].patches]
    if any(OPTIONS[name].freezes_library for name in names):
        found.append(mark(firmware_dir() / "mtls"))
    return tuple(found)


def apply_patches(names: Sequence[str], trees: Mapping[str, Path]) -> None:
    """Apply the options' patches to the unpacked sources, exactly or not at all.

    Args:
        names: from :func:`checked`.
        trees: a patch's first folder → where those sources are. A tree that is not named keeps what
            it has: ESP-IDF, for one, brings an mbedTLS of its own.

    Raises:
        EnvironmentProblem: ``patch`` is missing, or a patch is for other sources.
    """
    for name in names:
        for patch in OPTIONS[name].patches:
            tree = trees.get(patch.partition("/")[0])
            if tree is not None:
                _apply(custom_dir() / "patches" / patch, tree)


def _apply(patch: Path, tree: Path) -> None:
    if shutil.which("patch") is None:
        raise EnvironmentProblem(
            f"{patch.name} has to be applied to the sources, which needs patch: "
            "run `apt install patch` (as root), then try again"
        )
    # No fuzz: lines that have moved are found, lines that have changed are not guessed at.
    command = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "--no-backup-if-mismatch"]
    done = subprocess.run(
        [*command, "--directory", tree, "--input", patch.resolve()],
        capture_output=True,
        text=True,
        timeout=_PATCH_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise EnvironmentProblem(f"{patch.name} does not fit the sources in {tree}:\n{said}")
