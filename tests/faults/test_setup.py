"""`make demo` on a machine that lacks something: one message that says what, and exit code 3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the script itself runs on; everything else is "not installed".
_BASIC = ("bash", "dirname", "env", "id", "sha256sum", "flock", "cat", "rm", "grep", "sleep")


def machine(tmp_path: Path, *, without: str, fake: dict[str, str]) -> dict[str, str]:
    """Make a PATH with the basics, all of what setup.sh looks for except ``without``, and fakes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in (*_BASIC, "gcc", "make", "openssl"):
        found = shutil.which(tool)
        assert found, tool
        if tool != without:
            (folder / tool).symlink_to(found)
    python = f'exec {Path(sys.executable).resolve()} "$@"'
    for name, script in {"python3": python, **fake}.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "HOME": str(tmp_path)}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(checkout: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "setup.sh"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize("tool", ["gcc", "openssl"])
def test_a_missing_tool_is_named_where_it_cannot_be_installed(
    tool: str, checkout: Path, tmp_path: Path
) -> None:
    done = run(checkout, machine(tmp_path, without=tool, fake={"id": "echo 1000"}))
    assert done.returncode == 3
    assert f"missing: {tool}." in done.stderr
    assert f"apt-get install {tool}\n" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_compiler_is_installed_by_apt_where_that_is_allowed(
    checkout: Path, tmp_path: Path
) -> None:
    log = tmp_path / "apt.log"
    fakes = {"id": "echo 0", "apt-get": f'echo "$@" >>{log}; case "$1" in install) exit 100;; esac'}
    done = run(checkout, machine(tmp_path, without="gcc", fake=fakes))
    assert "install" in log.read_text()
    assert log.read_text().rstrip().endswith("gcc")
    # The install failed, so the message must still name what is missing.
    assert done.returncode == 3
    assert "apt-get install gcc" in done.stderr


HELD = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (unattended-upgr)"


def held_apt(log: Path, times: int) -> dict[str, str]:
    """An apt-get whose lock another program holds the first times that each command asks for it."""
    script = f"""
echo "$1" >>{log}
if [ "$(grep -c "^$1" {log})" -le {times} ]; then echo "{HELD}" >&2; exit 100; fi
[ "$1" = update ] || {{ echo "E: Unable to locate package gcc" >&2; exit 100; }}"""
    return {"id": "echo 0", "apt-get": script, "sleep": "exit 0"}


def test_apt_s_lock_is_waited_for_in_every_command(checkout: Path, tmp_path: Path) -> None:
    log = tmp_path / "apt.log"
    done = run(checkout, machine(tmp_path, without="gcc", fake=held_apt(log, times=2)))
    assert log.read_text().split() == ["update"] * 3 + ["install"] * 3
    # Once for each command, with who holds it.
    assert done.stderr.count("waiting for it") == 2
    assert done.stderr.count("held by process 7 (unattended-upgr)") == 2
    # Any other failure is told, and not tried again.
    assert "Unable to locate package gcc" in done.stderr
    assert done.returncode == 3


def test_apt_s_lock_that_is_never_free_is_told_in_the_end(checkout: Path, tmp_path: Path) -> None:
    script = checkout / "scripts" / "setup.sh"
    text = script.read_text()
    assert "\nlock_wait_s=300\n" in text
    script.write_text(text.replace("\nlock_wait_s=300\n", "\nlock_wait_s=0\n"))
    log = tmp_path / "apt.log"
    done = run(checkout, machine(tmp_path, without="gcc", fake=held_apt(log, times=99)))
    assert log.read_text().split() == ["update"]
    assert HELD in done.stderr
    assert "apt-get install gcc" in done.stderr
    assert done.returncode == 3


def test_an_old_python_is_refused_by_name(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, machine(tmp_path, without="", fake={"python3": "exit 1"}))
    assert done.returncode == 3
    assert "Python 3.11" in done.stderr


def test_an_unfinished_virtual_environment_is_made_again(checkout: Path) -> None:
    broken = checkout / ".venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 1\n")
    (checkout / "pyproject.toml").write_text("not a project: pip must fail\n")
    done = run(checkout, {**os.environ})
    assert done.returncode == 3
    assert "Python packages could not be installed" in done.stderr
    assert "virtual environment" in done.stderr
    assert broken.is_symlink()  # the venv module's own, no longer the broken file
    assert not list((checkout / ".venv").glob(".handfast-*"))
