"""Commands on the board: what they print, return and raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.boards.device_error import DeviceError, DeviceFull, device_error
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem


def test_exec_returns_what_was_printed(link: SerialLink) -> None:
    assert link.exec("print('größer')\nprint('second')") == "größer\nsecond\n"


def test_exec_takes_a_program_larger_than_the_boards_input_buffer(link: SerialLink) -> None:
    lines = [f"total += {n}" for n in range(1000)]
    assert link.exec("total = 0\n" + "\n".join(lines) + "\nprint(total)") == "499500\n"


def test_exec_raises_the_boards_exception_with_its_traceback(link: SerialLink) -> None:
    with pytest.raises(DeviceError, match="raised ValueError: no such thing") as caught:
        link.exec("print('before')\nraise ValueError('no such thing')")
    assert caught.value.kind == "ValueError"
    assert caught.value.detail == "no such thing"
    assert "line 2" in caught.value.traceback
    assert caught.value.exit_code == 6
    assert link.exec("print(1)") == "1\n"


def test_syntax_error_is_raised(link: SerialLink) -> None:
    with pytest.raises(DeviceError) as caught:
        link.exec("x = = 1")
    assert caught.value.kind == "SyntaxError"
    assert link.exec("print(1)") == "1\n"


def test_lack_of_memory_is_named(link: SerialLink) -> None:
    with pytest.raises(DeviceError, match="ran out of memory"):
        link.exec("x = bytearray(10_000_000)")


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -7, 2**70, "", "'\"\n\x04\x1e", "ß€", b"", bytes(range(256)), [1, [2]],
     {"a": (1, b"\x03")}, "x" * 5000],
)  # fmt: skip
def test_call_hands_values_over_and_back(link: SerialLink, value: object) -> None:
    link.exec("import sys\nclass _E: pass\n_E.echo = lambda x: x\nsys.modules['echo'] = _E")
    assert link.call("echo.echo", value) == value


def test_call_drops_what_the_function_prints(link: SerialLink) -> None:
    link.push({"/noisy.py": b"def f():\n print('noise')\n return 5\n"})
    assert link.call("noisy.f") == 5


def test_call_of_a_function_in_a_package_works(link: SerialLink) -> None:
    link.push({"/lib/pkg/inner.py": b"def f(a, b):\n return a + b\n"})
    assert link.call("pkg.inner.f", "x", "y") == "xy"


def test_call_whose_value_cannot_be_read_back_says_so(link: SerialLink) -> None:
    with pytest.raises(BoardProblem, match="no value that can be read back"):
        link.call("io.BytesIO")


@pytest.mark.parametrize("last", ["OSError: [Errno 28] ENOSPC", "OSError: 28"])
def test_full_file_system_is_recognised(last: str) -> None:
    error = device_error("/dev/x", f"Traceback (most recent call last):\n  File x\n{last}\n")
    assert isinstance(error, DeviceFull)
    assert error.exit_code == 6


@given(st.text(max_size=200))
def test_any_traceback_becomes_an_error_with_a_message(traceback: str) -> None:
    error = device_error("/dev/x", traceback)
    assert "/dev/x" in str(error)
    assert error.traceback == traceback
