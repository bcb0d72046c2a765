"""The step from a library on the filesystem to one in the firmware: whatever fails, one runs whole.

The board has been flashed with firmware that has the library in it, and still holds the copy that
the firmware before needed. Provisioning takes that away.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from handfast.admin_client import AdminClient
from handfast.boards.device_library import DeviceLibrary, device_library
from handfast.boards.device_tree import NEXT, PART, Installed
from handfast.boards.identify import literal
from handfast.boards.provision import Provisioned, provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / "host" / "serial"), str(_TESTS / "end_to_end")]
from cable import CutCable  # noqa: E402
from provision_support import answers_end_with_the_power, running_gateway  # noqa: E402

# A build that other tests have as well.
FROZEN = ("fast-mbedtls", "frozen-mtls", "secure-element", "session-resumption", "tls13")
APPLICATION_S = 60.0
# What the step takes at least: docs/reference/faults.md counts on it.
FEWEST_OPERATIONS = 50
UNPLUGGED = 16
LIBRARY = "/lib/mtls"


@dataclass(frozen=True)
class Before:
    """An enrolled board with a copied library, as its flash is; and what the step takes."""

    image: Path
    device_id: str
    library: Mapping[str, str]
    operations: int
    bytes_sent: int


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "state") as (_, gateway):
        yield gateway.admin


@contextmanager
def board(
    folder: Path, image: Path | None, options: tuple[str, ...], *, torn: bool = True
) -> Iterator[SimulatedBoard]:
    """A board that is switched on; whichever folder it is in, it is the same hardware.

    Where its power will be cut a flash operation is torn, or not begun.
    """
    folder.mkdir()
    if image is not None:
        shutil.copy(image, folder / "flash.img")
    with SimulatedBoard("sim-pico-w", directory=folder, name="frozen-step", options=options) as it:
        it.power_on(torn=torn)
        yield it


def step(url: str, gateway: AdminClient) -> Provisioned:
    return provision(url, gateway=gateway, start=False)


@contextmanager
def before_the_installation(
    then: Callable[[SerialLink], object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Call ``then`` with the link just before the tree is changed."""
    install = SerialLink.install

    def watched(link: SerialLink, *arguments: Any, **options: Any) -> Installed:
        then(link)
        return install(link, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(SerialLink, "install", watched)
        yield


def unpacked(micropython: str, mpy: int) -> DeviceLibrary:
    """Return the library as many files: there is most to be taken away."""
    return replace(device_library(micropython, mpy), packed={})


def flash_operations(link: SerialLink) -> int:
    return int(link.exec("import _sim\nprint(_sim.flash_ops())"))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, gateway: AdminClient) -> Before:
    folder = tmp_path_factory.mktemp("before")
    with board(folder / "stock", None, ()) as stock:
        device_id = provision(stock.serial_url, gateway=gateway, library=unpacked).device_id
        with SerialLink.open(stock.serial_url) as link:
            with link.console() as console:
                console.wait_for_event("telemetry", APPLICATION_S)
            library = link.hashes(LIBRARY)
        stock.power_off()
        image = Path(shutil.copy(stock.flash_image, folder / "image"))
    started: list[int] = []
    with (
        pytest.MonkeyPatch.context() as patch,
        board(folder / "measured", image, FROZEN) as measured,
        CutCable(measured.serial_url) as cable,
    ):
        with before_the_installation(lambda link: started.append(flash_operations(link)), patch):
            assert step(cable.url, gateway).files_removed == len(library)
        with SerialLink.open(cable.url) as link:
            operations = flash_operations(link) - started[0]
        sent = cable.carried
    assert operations >= FEWEST_OPERATIONS
    return Before(image, device_id, library, operations, sent)


def copied_library(board: SimulatedBoard, gateway: AdminClient, before: Before) -> Collection[str]:
    """Switch the board on: it calls with the frozen library; return what is left of the copy."""
    reports = len(gateway.telemetry(before.device_id))
    board.power_cycle()
    with SerialLink.open(board.serial_url) as link:
        with link.console() as console:
            console.wait_for_event("telemetry", APPLICATION_S)
        loaded = literal(
            link,
            "import sys\nprint([m.__file__ for n, m in sys.modules.items()"
            " if n.split('.')[0] == 'mtls'])",
        )
        left = link.hashes(LIBRARY)
    assert "mtls/__init__.py" in loaded
    assert all(file.startswith("mtls/") for file in loaded), f"a mixture runs: {loaded}"
    assert len(gateway.telemetry(before.device_id)) > reports
    assert left in ({}, before.library)
    return left


def assert_resumed(board: SimulatedBoard, gateway: AdminClient) -> None:
    """Provisioning once more ends with the step done and the identity kept."""
    done = step(board.serial_url, gateway)
    assert done.frozen
    assert (done.enrolled, done.idevid_issued, done.token_given) == (True, False, False)
    with SerialLink.open(board.serial_url) as link:
        assert link.exec("import os\nprint(os.listdir('/lib'))").strip() == "[]"
        there = set(literal(link, "import os\nprint(os.listdir('/'))"))
    assert there.isdisjoint({NEXT.strip("/"), PART.strip("/")})


def cut_in_the_step(
    board: SimulatedBoard, gateway: AdminClient, patch: pytest.MonkeyPatch, operation: int
) -> None:
    """Provision the board; its power fails at that flash operation of the installation."""
    with ExitStack() as watched:

        def doom(link: SerialLink) -> None:
            link.exec(f"import _sim\n_sim.cut_after({operation})")
            watched.enter_context(answers_end_with_the_power(board, link))

        with before_the_installation(doom, patch), pytest.raises(BoardProblem):
            step(board.serial_url, gateway)
        board.wait_for_power_cut(5)


@pytest.mark.parametrize(("torn", "every"), [(True, 1), (False, 4)])
def test_power_cut_in_the_step_leaves_the_copied_library_whole_or_gone(
    before: Before,
    gateway: AdminClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torn: bool,
    every: int,
) -> None:
    whole: list[bool] = []
    for operation in range(0, before.operations, every):
        with board(tmp_path / f"cut-{operation}", before.image, FROZEN, torn=torn) as it:
            cut_in_the_step(it, gateway, monkeypatch, operation)
            whole.append(bool(copied_library(it, gateway, before)))
            assert_resumed(it, gateway)
    # There is one moment at which it goes.
    assert whole == sorted(whole, reverse=True)
    assert set(whole) == {True, False}


def test_unplugged_in_the_step_it_is_resumed(
    before: Before, gateway: AdminClient, tmp_path: Path
) -> None:
    rng = random.Random(11)  # noqa: S311
    for case in range(UNPLUGGED):
        after = rng.randrange(1, int(0.97 * before.bytes_sent))
        with board(tmp_path / f"cut-{case}", before.image, FROZEN) as it:
            with CutCable(it.serial_url, cut_after=after) as cable, pytest.raises(BoardProblem):
                step(cable.url, gateway)
            copied_library(it, gateway, before)
            assert_resumed(it, gateway)
