"""The command line as a whole: whatever goes wrong is one message and an exit code of its kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import pytest

from handfast import cli
from handfast.errors import BoardProblem, EnvironmentProblem, HandfastError, UsageError

Fail = Callable[[BaseException], None]


def handfast(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handfast", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let the command line meet an error, as any command may raise it."""

    def meet(error: BaseException) -> None:
        @click.command()
        def command() -> NoReturn:
            raise error

        monkeypatch.setattr(cli, "handfast", command)
        monkeypatch.setattr(sys, "argv", ["handfast"])
        cli.main()

    return meet


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (HandfastError("a check"), 1, "handfast: a check"),
        (UsageError("no such name"), 2, "handfast: no such name"),
        (EnvironmentProblem("no disk"), 3, "handfast: no disk"),
        (BoardProblem("unplugged"), 6, "handfast: unplugged"),
        (OSError(28, "No space left on device", "/x/y"), 3, "/x/y: No space left on device"),
        (PermissionError(13, "Permission denied"), 3, "Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_its_exit_code(
    fail: Fail,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        fail(error)
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("device", "list", "--nonsense"),
        ("device", "show"),
        ("gateway", "serve", "--api-port", "65536"),
        ("gateway", "serve", "--enrol-port", "-1"),
        ("provision", "--board", "x", "--secure-element", "{"),
        ("provision", "--board", "x", "--secure-element", "[0]"),
        ("demo", "--boards", "0"),
        ("demo", "--board", "sim-unknown"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ended = handfast(*arguments)
    assert ended.returncode == 2
    assert "Error:" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", ["--json", "--keep"])
def test_a_demo_that_could_not_keep_its_results_does_not_begin(option: str) -> None:
    ended = handfast("demo", option, "/proc/nowhere/result")
    assert ended.returncode == EnvironmentProblem.exit_code
    assert "/proc/nowhere/result" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_output_that_nobody_reads_any_more_is_no_failure_of_ours() -> None:
    command = [sys.executable, "-m", "handfast", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert said == b""


def test_help_names_every_group_without_loading_it() -> None:
    script = (
        "import sys; from handfast.cli import handfast\n"
        "try: handfast(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'cryptography', 'httpx', 'sqlalchemy', 'rich', 'starlette'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for group in ("ca", "gateway", "device", "token", "sim", "provision", "demo"):
        assert f"\n  {group} " in done.stdout


def test_an_interrupt_while_the_command_line_is_imported_ends_like_any_other(
    tmp_path: Path,
) -> None:
    # The first thing that handfast.cli imports from outside is click: be it slow, and interrupted.
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "handfast", "--version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "handfast: interrupted\n")


@pytest.mark.parametrize("arguments", [(), ("--all", "board-1")])
def test_a_renewal_is_suggested_to_named_devices_or_to_all(arguments: tuple[str, ...]) -> None:
    done = handfast("device", "renew", *arguments)
    assert done.returncode == UsageError.exit_code
    assert "name devices, or give --all" in done.stderr
