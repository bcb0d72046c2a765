"""The runner of MicroPython's tests can fail: what goes wrong with one is a failure here."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from handfast.boards.definition import FOLDERS_VARIABLE, load_board
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import UsageError
from tests.upstream import run as runner
from tests.upstream.expected import Expected, entry_for, problem, read_expected, read_timed
from tests.upstream.local_net import LocalNet, local_net
from tests.upstream.run import at_pace, prepare, run_multi, run_single
from tests.upstream.small import SMALL
from tests.upstream.targets import Target, other_versions, parse_target, pinned_versions
from tests.upstream.tree import UpstreamTest, UpstreamTree
from tests.upstream.verdict import Verdict, unittest_outcome

NET = LocalNet("127.0.0.1", "127.0.0.1", plain=1, tls=2, nowhere=3, ports={8000: 23456})
REASON = "because this is how the board is made"
KNOWN = Expected("a.py", ("sim-*",), ("*",), "fail", "no attribute", REASON)


@pytest.fixture
def links(tmp_path: Path) -> Iterator[list[SerialLink]]:
    boards = [SimulatedBoard(directory=tmp_path / name) for name in ("one", "other")]
    try:
        for board in boards:
            board.power_on()
        opened = [SerialLink.open(board.serial_url) for board in boards]
        yield opened
        for link in opened:
            link.close()
    finally:
        for board in boards:
            board.close()


def written(folder: Path, text: str, expected: str | None = None) -> UpstreamTest:
    path = folder / "written.py"
    path.write_text(text)
    if expected is not None:
        path.with_name("written.py.exp").write_text(expected)
    return UpstreamTest("extmod/written.py", path)


def test_ends_wait_for_each_other_at_a_board_s_pace_and_for_nothing_else() -> None:
    text = "await asyncio.wait_for(ev.wait(), 10)\ns.settimeout(0.250)\nsleep(10)"
    assert at_pace(text, 1) == text
    slow = "await asyncio.wait_for(ev.wait(), 60.0)\ns.settimeout(1.5)\nsleep(10)"
    assert at_pace(text, 6) == slow


# ---- Plain tests ----


@pytest.mark.parametrize(
    ("text", "outcome", "says"),
    [
        ("print('right')", "pass", ""),
        ("print('wrong')", "fail", "+wrong"),
        ("print('right')\nprint()", "fail", "+"),
        ("pass", "fail", "-right"),
        ("print('right')\nraise ValueError(7)", "fail", "ValueError: 7\n\nCRASH"),
        ("print('right'", "fail", "it did not start"),
        ("print('SKIP')\nraise SystemExit", "skip", ""),
        ("print('right')\nraise SystemExit", "pass", ""),
    ],
)
def test_what_a_test_prints_decides(
    links: list[SerialLink], tmp_path: Path, text: str, outcome: str, says: str
) -> None:
    verdict = run_single(links[0], written(tmp_path, text, "right\n"), NET)
    assert verdict.outcome == outcome
    assert says in verdict.detail


def test_cpython_says_what_is_right_where_no_file_does(
    links: list[SerialLink], tmp_path: Path
) -> None:
    same = written(tmp_path, "print(sorted({3, 1}), 10 ** 20)")
    assert run_single(links[0], same, NET).outcome == "pass"
    other = written(tmp_path, "import sys\nprint(sys.implementation.name)")
    verdict = run_single(links[0], other, NET)
    assert verdict.outcome == "fail"
    assert "-cpython" in verdict.detail


def test_a_test_that_hangs_fails_within_its_time(
    links: list[SerialLink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TEST_S", 1.0)
    before = time.monotonic()
    verdict = run_single(links[0], written(tmp_path, "while True: pass", ""), NET)
    assert verdict.outcome == "fail"
    assert "did not finish" in verdict.detail
    assert time.monotonic() - before < runner.SILENT_S
    # The board is not lost by it.
    assert run_single(links[0], written(tmp_path, "print(1)", "1\n"), NET).outcome == "pass"


def test_a_summary_of_unittest_decides_by_itself() -> None:
    rule = "-" * 70
    assert unittest_outcome(f"{rule}\nRan 2 tests\n\nOK\n") == Verdict("pass")
    assert unittest_outcome(f"{rule}\nRan 2 tests\n\nOK (skipped=1)\n") == Verdict("pass")
    failed = unittest_outcome(f"{rule}\nRan 2 tests\n\nFAILED (failures=1, errors=0)\n")
    assert failed is not None
    assert failed.outcome == "fail"
    assert unittest_outcome("OK\n") is None


@pytest.mark.parametrize(
    ("body", "last"),
    [
        ("self.assertEqual(1, 1)", "OK"),
        ("self.assertEqual(1, 2)", "FAILED (failures=1, errors=0)"),
        ("self.assertIsNone(0)", "FAILED (failures=1, errors=0)"),
        ("with self.assertRaises(OSError): pass", "FAILED (failures=1, errors=0)"),
        ("with self.assertRaises(OSError): raise OSError", "OK"),
        ("1 // 0", "FAILED (failures=0, errors=1)"),
        ("self.skipTest('no')", "OK (skipped=1)"),
    ],
)
def test_the_unittest_that_boards_are_given_can_fail(
    links: list[SerialLink], tmp_path: Path, body: str, last: str
) -> None:
    text = f"import unittest\nclass T(unittest.TestCase):\n def test_it(self):\n  {body}\n"
    test = written(tmp_path, text + "unittest.main()\n")
    prepare(links[0], test, now=time.time())
    assert links[0].exec(test.text).splitlines()[-4:] == ["-" * 70, "Ran 1 tests", "", last]


# ---- Tests for several boards ----

ASK = """
import socket
def instance0():
    multitest.globals(WORD="hello")
    multitest.next()
    multitest.wait("asked")
    print("heard")
    multitest.broadcast("answered")
def instance1():
    multitest.next()
    multitest.broadcast("asked")
    multitest.wait("answered")
    print(WORD)
"""


def test_boards_hear_each_other(links: list[SerialLink], tmp_path: Path) -> None:
    tree = UpstreamTree.unpacked("1.26.1")
    right = "--- instance0 ---\nheard\n--- instance1 ---\nhello\n"
    assert run_multi(links, written(tmp_path, ASK, right), tree, NET).outcome == "pass"
    wrong = written(tmp_path, ASK, right.replace("hello", "bye"))
    assert "+hello" in run_multi(links, wrong, tree, NET).detail
    judged_by_cpython = written(tmp_path, ASK)
    judged_by_cpython.path.with_name("written.py.exp").unlink()
    assert run_multi(links, judged_by_cpython, tree, NET).outcome == "pass"


def test_a_silent_board_and_one_that_raises_fail(
    links: list[SerialLink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SILENT_S", 1.0)
    tree = UpstreamTree.unpacked("1.26.1")
    deaf = written(tmp_path, ASK.replace('multitest.broadcast("asked")', "pass"), "")
    assert "+TIMEOUT" in run_multi(links, deaf, tree, NET).detail
    raising = written(tmp_path, ASK.replace('print("heard")', "1 // 0"), "")
    assert "+ZeroDivisionError: divide by zero" in run_multi(links, raising, tree, NET).detail


# ---- The list ----


@pytest.mark.parametrize(
    ("verdict", "entry", "says"),
    [
        (Verdict("pass"), None, ""),
        (Verdict("fail", "why"), None, "gives no reason"),
        (Verdict("skip", "why"), None, "gives no reason"),
        (Verdict("fail", "has no attribute 'x'"), KNOWN, ""),
        (Verdict("pass"), KNOWN, "remove its entry"),
        (Verdict("skip"), KNOWN, "expected.toml has it as fail"),
        (Verdict("fail", "another trouble"), KNOWN, "fails otherwise"),
    ],
)
def test_only_what_the_list_says_may_go_wrong(
    verdict: Verdict, entry: Expected | None, says: str
) -> None:
    found = problem(verdict, entry)
    assert bool(found) == bool(says)
    assert says in found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("reason = 'flaky'", "gives no reason"),
        ("reasons = 'x'", "not a known key"),
        ("", "reason is missing"),
        (f"reason = '{REASON}'", "says belongs to"),
        (f"reason = '{REASON}'\nsays = ''", "says belongs to"),
    ],
)
def test_an_entry_without_a_reason_is_refused(tmp_path: Path, change: str, says: str) -> None:
    file = tmp_path / "expected.toml"
    file.write_text(f"[[expected]]\ntest = 'a.py'\nboards = ['*']\noutcome = 'fail'\n{change}\n")
    with pytest.raises(UsageError, match=says):
        read_expected(file)


def test_every_entry_is_about_a_test_that_there_is_and_no_two_about_the_same() -> None:
    entries = read_expected()
    names: set[str] = set()
    for version in pinned_versions():
        tests = {test.name for test in UpstreamTree.unpacked(version).tests()}
        names |= tests
        for board in ("sim-pico-w", "sim-esp32", "some-other"):
            for name in tests:
                entry_for(entries, name, board, version)
    assert entries
    assert {entry.test for entry in entries} | set(read_timed()) <= names
    left_out = {entry.test for entry in entries if entry.outcome == "not-run"}
    assert {name.partition("/")[0] for name in left_out} == {"net_inet"}


def test_a_test_is_not_tried_again_without_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "expected.toml"
    file.write_text("[[timed]]\ntest = 'a.py'\nreason = 'flaky'\n")
    with pytest.raises(UsageError, match="must have test and a reason"):
        read_timed(file)


def test_the_tests_of_each_version_are_all_found() -> None:
    for version in pinned_versions():
        tree = UpstreamTree.unpacked(version)
        names = [test.name for test in tree.tests()]
        assert len(names) >= 75
        folders = {name.partition("/")[0] for name in names}
        assert folders == {"extmod", "net_hosted", "net_inet", "multi_net"}
        assert tree.test("multi_net/tcp_data.py").instances == 2
    assert set(SMALL) <= {test.name for test in UpstreamTree.unpacked("1.26.1").tests()}


# ---- Names and ports ----


def test_a_test_asks_here_for_what_it_would_ask_the_internet_for() -> None:
    text = (
        'a = socket.getaddrinfo("micropython.org", 443)\n'
        'b = socket.getaddrinfo("micropython.org", 80)\n'
        'c = socket.getaddrinfo("192.0.2.1", 80)\nPORT = 8000\nn = 80001\n'
        'd = socket.getaddrinfo("test.mosquitto.org", 8883, socket.AF_INET)\n'
        "e = socket.getaddrinfo(site, 443, socket.AF_INET)\nf = asyncio.open_connection(url, 80)\n"
    )
    local = NET.localised(text)
    assert local == (
        'a = socket.getaddrinfo("127.0.0.1", 2)\nb = socket.getaddrinfo("127.0.0.1", 1)\n'
        'c = socket.getaddrinfo("127.0.0.1", 3)\nPORT = 23456\nn = 80001\n'
        'd = socket.getaddrinfo("127.0.0.1", 2, socket.AF_INET)\n'
        'e = socket.getaddrinfo("127.0.0.1", 2, socket.AF_INET)\n'
        'f = asyncio.open_connection("127.0.0.1", 1)\n'
    )
    assert NET.restored("on 127.0.0.1:23456") == "on 127.0.0.1:8000"
    elsewhere = replace(NET, host="10.0.2.2")
    assert 'getaddrinfo("10.0.2.2", 2)' in elsewhere.localised(text)
    assert elsewhere.at_home().localised(text) == local  # what CPython is given


def test_no_test_that_is_run_asks_a_server_on_the_internet() -> None:
    left_out = {entry.test for entry in read_expected() if entry.outcome == "not-run"}
    asked = {
        (test.name, host)
        for version in pinned_versions()
        for test in UpstreamTree.unpacked(version).tests()
        if test.name.startswith("net_inet/") and test.name not in left_out
        for host in re.findall(
            r"(?:getaddrinfo|open_connection)\(([^,)]+),", NET.localised(test.text)
        )
    }
    # Names that nobody has and addresses that are looked up, but not connected to.
    literal = {'"nonexistent.example.com"', '"hey.!!$$"', '"10.10.10.10"', '"0.0.0.0"'}
    assert {host for _, host in asked} == literal | {'"127.0.0.1"'}, sorted(asked)


@pytest.mark.parametrize(
    ("question", "answer"),
    [(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"), (b"\x16\x03\x01", b"HTTP/1.1 400 ")],
)
def test_the_peer_answers_what_is_no_request_too(question: bytes, answer: bytes) -> None:
    with (
        local_net("127.0.0.1") as net,
        socket.create_connection((net.host, net.plain), 10) as asking,
    ):
        asking.sendall(question)
        assert asking.recv(4096).startswith(answer)


def test_a_simulated_board_can_be_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = other_versions(tmp_path, pinned_versions())
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    assert Target("sim-pico-w-v1-25-0", "1.25.0") in targets
    for target in targets:
        firmware = load_board(target.board).firmware
        assert firmware is not None
        assert firmware.micropython == target.version
        assert target.listed_as in ("sim-pico-w", "sim-esp32")
        assert parse_target(str(target)) == parse_target(target.board) == target
