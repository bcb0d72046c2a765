"""What the application prints: no line lost, events read, every wait ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.boards.console import Line, parse_event
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer, Unplugged
from handfast.boards.simulator import SimulatedBoard

FLOOD = b"""
for n in range(20000):
    print('line', n)
print('mtls: flood over=1')
"""


def line(text: str, number: int = 1) -> Line:
    return Line(number, datetime.now(UTC), text)


@pytest.mark.parametrize(
    ("text", "name", "fields"),
    [
        ("mtls: boot boot_id=12ab version=0.1.0", "boot", {"boot_id": "12ab", "version": "0.1.0"}),
        ("mtls: ping ok", "ping", {}),
        ("mtls: clock", "clock", {}),
        ('mtls: error kind=X detail="a b=c"', "error", {"kind": "X", "detail": "a b=c"}),
        ("mtls: error kind=X detail=a b c", "error", {"kind": "X", "detail": "a b c"}),
        ("mtls: error detail= kind=", "error", {"detail": "", "kind": ""}),
        ("noise mtls: renewed serial=0a", "renewed", {"serial": "0a"}),
        ('mtls: error detail="say \\"x\\""', "error", {"detail": 'say "x"'}),
    ],
)
def test_event_lines_are_read(text: str, name: str, fields: dict[str, str]) -> None:
    event = parse_event(line(text, 7))
    assert event is not None
    assert (event.name, dict(event.fields), event.number) == (name, fields, 7)


@pytest.mark.parametrize(
    "text", ["", "mtls:", "mtls: ", "telemetry seq=1", "MTLS: boot", "mtls: 1"]
)
def test_other_lines_are_no_events(text: str) -> None:
    assert parse_event(line(text)) is None


_NAMES = st.from_regex(r"\A[a-z][a-z0-9_]{0,8}\Z")


@given(_NAMES, st.dictionaries(_NAMES, st.from_regex(r"\A[A-Za-z0-9:.,/-]{0,20}\Z"), max_size=5))
def test_whatever_is_written_as_an_event_is_read_as_it(name: str, fields: dict[str, str]) -> None:
    written = " ".join(["mtls:", name, *(f"{key}={value}" for key, value in fields.items())])
    event = parse_event(line(written))
    assert event is not None
    assert event.name == name
    assert event.fields == fields


@given(st.text(max_size=300))
def test_any_line_can_be_read(text: str) -> None:
    parse_event(line(text))
    parse_event(line("mtls: x " + text))


def test_no_line_of_a_flood_is_lost(link: SerialLink) -> None:
    link.push({"/main.py": FLOOD})
    with link.start_application() as console:
        end = console.wait_for_event("flood", 30)
        numbers = [int(each.text.split()[1]) for each in console.lines if "line" in each.text]
    # The last 10,000 are kept, and each has the number that it was printed with.
    assert end.number == 20_001
    assert numbers == list(range(20_000 - len(numbers), 20_000))
    assert len(numbers) > 9_000


def test_captured_flood_is_whole(board: SimulatedBoard, tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    with SerialLink.open(board.serial_url, capture=capture) as link:
        link.push({"/main.py": FLOOD})
        with link.start_application() as console:
            console.wait_for_event("flood", 30)
    captured = capture.read_bytes()
    flood = captured[captured.find(b"line 0\r\n") :].splitlines()[:20_000]
    wrong = [(n, said) for n, said in enumerate(flood) if said != b"line %d" % n]
    assert (len(flood), wrong[:3]) == (20_000, []), captured[:300]
    assert capture.stat().st_mode & 0o777 == 0o600


def test_first_line_of_the_application_is_not_lost_between_link_and_console(
    link: SerialLink,
) -> None:
    link.push({"/boot.py": b"print('from boot')\n", "/main.py": b"print('from main')\n"})
    for _ in range(5):
        with link.start_application() as console:
            console.wait_for("from main", 5)
            assert [each.text for each in console.lines][:2] == ["from boot", "from main"]


def test_lines_carry_growing_numbers_and_aware_times(link: SerialLink) -> None:
    link.push({"/main.py": b"for n in range(3): print(n)\n"})
    started = datetime.now(UTC)
    with link.start_application() as console:
        console.wait_for("^2$", 5)
        lines = console.lines[:3]
    assert [each.number for each in lines] == [1, 2, 3]
    assert started <= lines[0].at <= lines[2].at <= datetime.now(UTC)


def test_wait_after_a_line_finds_only_later_ones(link: SerialLink) -> None:
    program = b"for n in range(1, 4): print('mtls: telemetry seq=%d' % n)\n"
    link.push({"/main.py": program})
    with link.start_application() as console:
        first = console.wait_for_event("telemetry", 5)
        second = console.wait_for_event("telemetry", 5, after=first.number)
        third = console.wait_for_event("telemetry", 5, where=lambda e: e.fields["seq"] == "3")
        assert [e.fields["seq"] for e in (first, second, third)] == ["1", "2", "3"]
        assert len(console.events("telemetry", after=first.number)) == 2


def test_wait_in_vain_ends_in_time_and_shows_what_was_printed(link: SerialLink) -> None:
    link.push({"/main.py": b"print('something else')\n"})
    with link.start_application() as console:
        console.wait_for("something", 5)
        started = time.monotonic()
        with pytest.raises(NoAnswer, match=r"(?s)never.*something else"):
            console.wait_for("never", 0.2)
    assert time.monotonic() - started < 2


def test_unplugged_board_ends_a_wait_at_once(board: SimulatedBoard, link: SerialLink) -> None:
    link.push({"/main.py": b"print('ready')\nimport time\ntime.sleep(1000)\n"})
    with link.start_application() as console:
        console.wait_for("ready", 5)
        board.unplug()
        started = time.monotonic()
        with pytest.raises(Unplugged, match="plug it in"):
            console.wait_for("never", 60)
    assert time.monotonic() - started < 5


def test_closed_console_gives_the_port_back(link: SerialLink) -> None:
    link.push({"/main.py": b"while True: print('busy')\n"})
    with link.start_application() as console:
        console.wait_for("busy", 5)
    assert link.exec("print(6 * 7)") == "42\n"


def test_console_sends_input_to_the_application(link: SerialLink) -> None:
    link.push({"/main.py": b"print('hello', input('name? '))\n"})
    with link.start_application() as console:
        console.write(b"Ada\r")
        assert "hello Ada" in console.wait_for("hello", 5).text


def test_line_without_an_end_is_seen_in_the_text(link: SerialLink) -> None:
    link.push({"/main.py": b"import sys, time\nsys.stdout.write('no end')\ntime.sleep(1000)\n"})
    with link.start_application() as console:
        deadline = time.monotonic() + 5
        while "no end" not in console.text:
            assert time.monotonic() < deadline
        assert console.lines == []


def test_endless_line_is_cut_into_lines(link: SerialLink) -> None:
    program = b"import sys\nfor _ in range(3000): sys.stdout.write('x' * 10)\nprint('!')\n"
    link.push({"/main.py": program})
    with link.start_application() as console:
        console.wait_for("!", 5)
        assert sum(each.text.count("x") for each in console.lines) == 30_000
