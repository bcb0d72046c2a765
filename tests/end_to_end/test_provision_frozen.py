"""Boards whose firmware has the library in it: nothing is copied that nothing would read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from provision_support import running_gateway

from handfast.admin_client import AdminClient
from handfast.boards import firmware_options, frozen_library
from handfast.boards.frozen_library import own_library
from handfast.boards.identify import ask_frozen
from handfast.boards.library_package import write_library
from handfast.boards.provision import provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem
from handfast.resources import firmware_dir

# A build that other tests have as well.
FROZEN = ("fast-mbedtls", "frozen-mtls", "secure-element", "session-resumption", "tls13")
APPLICATION_S = 60.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "state") as (_, gateway):
        yield gateway.admin


@contextmanager
def board(folder: Path, options: tuple[str, ...] = FROZEN) -> Iterator[SimulatedBoard]:
    with SimulatedBoard("sim-pico-w", directory=folder, options=options) as board:
        board.power_on()
        yield board


def library(board: SimulatedBoard) -> dict[str, str]:
    with SerialLink.open(board.serial_url) as link:
        return link.hashes("/lib/mtls")


def reports(board: SimulatedBoard) -> bool:
    with SerialLink.open(board.serial_url) as link, link.start_application() as console:
        return bool(console.wait_for_event("telemetry", APPLICATION_S))


def test_frozen_library_is_what_the_board_runs_and_none_is_copied(
    tmp_path: Path, gateway: AdminClient
) -> None:
    with board(tmp_path / "frozen-blank") as blank:
        done = provision(blank.serial_url, gateway=gateway, start=False)
        assert done.frozen
        assert library(blank) == {}
        assert reports(blank)
        again = provision(blank.serial_url, gateway=gateway, start=False)
        assert (again.files_copied, again.files_removed, again.enrolled) == (0, 0, True)
        with SerialLink.open(blank.serial_url) as link:
            link.soft_reset()
            assert link.exec("import mtls\nprint(mtls.__file__)").strip() == "mtls/__init__.py"


def test_library_of_the_firmware_before_goes_in_the_same_step(
    tmp_path: Path, gateway: AdminClient
) -> None:
    folder = tmp_path / "frozen-later"
    with board(folder, ()) as stock:
        before = provision(stock.serial_url, gateway=gateway, start=False)
        assert not before.frozen
        copied = library(stock)
        assert copied
        assert reports(stock)
    with board(folder) as frozen:
        after = provision(frozen.serial_url, gateway=gateway, start=False)
        assert (after.files_copied, after.files_removed) == (0, len(copied))
        assert after.enrolled
        with SerialLink.open(frozen.serial_url) as link:
            assert link.exec("import os\nprint(os.listdir('/lib'))").strip() == "[]"
        assert reports(frozen)
    with board(folder, ()) as stock:  # and back
        assert provision(stock.serial_url, gateway=gateway, start=False).files_removed == 0
        assert library(stock) == copied
        assert reports(stock)


def test_another_frozen_library_is_refused_and_the_board_left_as_it_was(
    tmp_path: Path, gateway: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with board(tmp_path / "frozen-older") as older:
        provision(older.serial_url, gateway=gateway, start=False)
        with SerialLink.open(older.serial_url) as link:
            before = link.hashes("/")
        newer = tmp_path / "newer"
        monkeypatch.setattr(frozen_library, "firmware_dir", lambda: newer)
        (newer / "mtls").mkdir(parents=True)
        for path in (firmware_dir() / "mtls").glob("*.py"):
            text = path.read_text() + ("\n# changed\n" if path.stem == "url" else "")
            (newer / "mtls" / path.name).write_text(text)
        said = r"mtls 0\.1\.0 \(source \w{12}\) frozen in.*firmware build BOARD --with frozen-mtls"
        with pytest.raises(BoardProblem, match=said):
            provision(older.serial_url, gateway=gateway, start=False)
        with SerialLink.open(older.serial_url) as link:
            assert link.hashes("/") == before


def test_board_tells_of_its_frozen_library_whatever_stands_before_it_in_the_path(
    tmp_path: Path,
) -> None:
    with board(tmp_path / "told") as frozen, SerialLink.open(frozen.serial_url) as link:
        link.push({"/mtls/config.json": b"{}"})
        link.exec("import mtls")  # the folder: no boot.py of ours has put / behind the firmware
        assert link.exec("print(hasattr(mtls, '__version__'))").strip() == "False"
        assert ask_frozen(link) == own_library()
        kept = link.exec("import sys\nprint(sys.modules['mtls'] is mtls, sys.path)")
        assert kept.strip() == "True ['', '.frozen', '/lib']"
    with board(tmp_path / "none", ()) as stock, SerialLink.open(stock.serial_url) as link:
        link.push({"/lib/mtls/__init__.py": b"__version__ = '9'\n"})
        assert ask_frozen(link) is None


def test_library_frozen_from_its_package_is_known_by_the_hash_of_its_source(
    tmp_path: Path, gateway: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    write_library(package, mpy=None)
    monkeypatch.setattr(firmware_options, "firmware_dir", lambda: package)
    # What the package says of itself, and a product of its own among the builds that are kept.
    said = (package / "mtls" / frozen_library.MARK).read_text() + "# from its package\n"
    monkeypatch.setattr(firmware_options, "mark", lambda _: said)
    with board(tmp_path / "packaged", ("frozen-mtls",)) as packaged:
        with SerialLink.open(packaged.serial_url) as link:
            assert ask_frozen(link) == own_library()
        assert provision(packaged.serial_url, gateway=gateway, start=False).frozen
        assert reports(packaged)


# A library that does what a file of the board says: one build, whatever is wrong with it.
BROKEN = """\
with open("/broken.py") as _file:
    exec(_file.read())
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBoard]:
    firmware = tmp_path / "firmware"
    (firmware / "mtls").mkdir(parents=True)
    (firmware / "mtls" / "__init__.py").write_text(BROKEN)
    monkeypatch.setattr(firmware_options, "firmware_dir", lambda: firmware)
    with board(tmp_path / "broken", ("frozen-mtls",)) as broken:
        yield broken


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("import not_there", "ImportError: no module named 'not_there'"),
        ("__import__('mtls.not_there')", "ImportError: no module named 'mtls.not_there'"),
        ("raise ImportError", "ImportError: "),
        ("raise ValueError('a mistake')", "ValueError: a mistake"),
        ("1/0", "ZeroDivisionError: divide by zero"),
        ("raise SystemExit", "SystemExit: "),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("raise MemoryError", "MemoryError: "),
        ("pass", "AttributeError: "),  # no __version__: no library of ours
    ],
)
def test_frozen_library_that_cannot_be_imported_is_told_before_anything_is_written(
    broken: SimulatedBoard, gateway: AdminClient, does: str, said: str
) -> None:
    with SerialLink.open(broken.serial_url) as link:
        link.push({"/broken.py": does.encode()})
        before = link.hashes("/")
    refused = rf"cannot be imported \({re.escape(said)}.*nothing was changed"
    with pytest.raises(BoardProblem, match=refused):
        provision(broken.serial_url, gateway=gateway, start=False)
    with SerialLink.open(broken.serial_url) as link:
        assert link.hashes("/") == before
        kept = link.exec("import sys\nprint('mtls' in sys.modules, sys.path)")
        assert kept.strip() == "False ['', '.frozen', '/lib']"
