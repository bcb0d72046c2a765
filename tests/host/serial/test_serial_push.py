"""Files on the board: only what differs is written, and what is written is right."""

from __future__ import annotations

import hashlib
import random

import pytest

from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311


TREE = {
    "/lib/pkg/__init__.py": b"",
    "/lib/pkg/code.py": b"def f():\n    return 1\n" * 700,
    "/lib/pkg/deep/er/data.bin": some_bytes(9000),
    "/lib/pkg/one.bin": b"\x04",
    "/with space 'quote' \xc3\xa4.txt".encode("latin-1").decode(): b"\x03\x04\r\n" * 100,
    "/block.bin": some_bytes(4096),
    "/block_and_one.bin": b"a" * 4097,
}


def test_pushed_files_are_there_byte_for_byte(link: SerialLink) -> None:
    result = link.push(TREE)
    assert set(result.copied) == set(TREE)
    assert result.content_bytes == sum(map(len, TREE.values()))
    expected = {path: hashlib.sha256(content).hexdigest() for path, content in TREE.items()}
    assert link.hashes("/") == expected
    assert {path: link.read_file(path) for path in TREE} == TREE


def test_second_push_writes_nothing(link: SerialLink) -> None:
    link.push(TREE)
    before = link.exec("import _sim\nprint(_sim.flash_ops())")
    result = link.push(TREE)
    assert result.copied == ()
    assert set(result.unchanged) == set(TREE)
    assert link.exec("import _sim\nprint(_sim.flash_ops())") == before


def test_only_what_changed_is_written_again(link: SerialLink) -> None:
    link.push(TREE)
    changed = TREE | {"/lib/pkg/one.bin": b"\x05"}
    assert link.push(changed).copied == ("/lib/pkg/one.bin",)
    assert link.read_file("/lib/pkg/one.bin") == b"\x05"


def test_file_removed_from_the_board_comes_back(link: SerialLink) -> None:
    link.push(TREE)
    link.exec("import os\nos.remove('/lib/pkg/code.py')")
    assert link.push(TREE).copied == ("/lib/pkg/code.py",)


def test_file_damaged_on_the_board_is_replaced(link: SerialLink) -> None:
    link.push(TREE)
    link.exec("with open('/block.bin', 'r+b') as f: f.write(b'x')")
    assert link.push(TREE).copied == ("/block.bin",)
    assert link.read_file("/block.bin") == TREE["/block.bin"]


def test_files_that_do_not_belong_to_the_library_any_more_are_removed(link: SerialLink) -> None:
    link.push(TREE | {"/lib/pkg/old/gone.py": b"x", "/lib/other.py": b"y"})
    result = link.push(TREE, only_files_below=["/lib/pkg"])
    assert result.removed == ("/lib/pkg/old/gone.py",)
    assert set(link.hashes("/")) == set(TREE) | {"/lib/other.py"}
    assert "old" not in link.exec("import os\nprint(os.listdir('/lib/pkg'))")


def test_half_written_file_of_an_earlier_push_is_swept_up(link: SerialLink) -> None:
    link.push({"/lib/pkg/code.py.part": b"half", "/one.bin.part": b"half"})
    link.push({"/lib/pkg/code.py": b"x", "/one.bin": b"y"}, only_files_below=["/lib/pkg"])
    assert set(link.hashes("/")) == {"/lib/pkg/code.py", "/one.bin"}


def test_push_to_a_board_without_deflate_works(link: SerialLink) -> None:
    link.exec("import sys\nsys.modules['deflate'] = None")
    link.push({"/without.py": TREE["/lib/pkg/code.py"]})
    assert link.read_file("/without.py") == TREE["/lib/pkg/code.py"]


def test_progress_ends_with_everything(link: SerialLink) -> None:
    told: list[tuple[int, int]] = []
    link.push(TREE, progress=lambda done, total: told.append((done, total)))
    total = sum(map(len, TREE.values()))
    assert told == sorted(told)
    assert told[-1] == (total, total)


def test_push_leaves_no_names_behind(link: SerialLink) -> None:
    before = link.exec("print(sorted(dir()))")
    link.push(TREE)
    link.hashes("/")
    link.read_file("/block.bin")
    assert link.exec("print(sorted(dir()))") == before


def test_a_file_that_is_not_there_is_none(link: SerialLink) -> None:
    assert link.read_file("/none") is None
    assert link.hashes("/none") == {}


def test_content_that_arrives_damaged_is_not_installed(link: SerialLink) -> None:
    link.push({"/one.py": b"old"})
    link.exec(
        "import sys, binascii\nclass _Broken:\n hexlify = staticmethod(binascii.hexlify)\n"
        " @staticmethod\n def a2b_base64(text):\n"
        "  return binascii.a2b_base64(text)[:-1]\n"
        "sys.modules['binascii'] = _Broken"
    )
    with pytest.raises(BoardProblem, match=r"hash of /one\.py"):
        link.push({"/one.py": b"new"})
    assert link.hashes("/") == {"/one.py": hashlib.sha256(b"old").hexdigest()}
