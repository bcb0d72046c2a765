"""Wi-Fi passwords come from the environment, the keyring or a prompt; nobody else sees them."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECRET = "a secret of the air"
OTHER = "another one"
PROMPT_S = 0.5
_SCRIPT = """
import json, os, sys
from handfast.cli.wifi import passwords
from handfast.errors import HandfastError
try:
    found = passwords(json.loads(sys.argv[1]), remember="remember" in sys.argv)
except HandfastError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
left = [name for name in os.environ if name.startswith("HANDFAST_WIFI")]
with open(sys.argv[2], "w") as out:
    json.dump([found, left], out)
"""


class Asked:
    """What came of asking for passwords: what was found, said on the way, and the exit code."""

    def __init__(self, out: Path, said: str, code: int) -> None:
        self.said, self.code = said, code
        self.found, self.left = json.loads(out.read_text()) if out.exists() else (None, None)


def ask(
    folder: Path, *ssids: str, remember: bool = False, typed: str | None = None, **environment: str
) -> Asked:
    """Ask in a process of its own; ``typed`` is typed in a terminal, else there is none."""
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-c", _SCRIPT, json.dumps(ssids), str(out)]
    command += ["remember"] if remember else []
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = {
        **{name: value for name, value in os.environ.items() if "HANDFAST_WIFI" not in name},
        "PYTHONPATH": path,
        "PYTHON_KEYRING_BACKEND": "keyring_model.Keyring",
        "KEYRING_MODEL_FILE": str(folder / "keyring.json"),
        **environment,
    }
    if typed is None:
        done = subprocess.run(
            command, env=given, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
        return Asked(out, done.stdout + done.stderr, done.returncode)
    master, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            command,
            env=given,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,  # so that the prompt cannot go to the terminal of the tests
        )
        os.close(terminal)
        said = _read(master, until="Password of")
        time.sleep(PROMPT_S)  # what is typed before the prompt waits for an answer is discarded
        os.write(master, (typed + "\n").encode())
        said += _read(master, until=None)
        return Asked(out, said, process.wait(60))
    finally:
        process.kill()
        os.close(master)


def _read(master: int, *, until: str | None) -> str:
    """Return what is said, up to some words or the end."""
    said, deadline = "", time.monotonic() + 60
    while until is None or until not in said:
        assert time.monotonic() < deadline, said
        if select.select([master], [], [], 1.0)[0]:
            try:
                said += os.read(master, 1024).decode()
            except OSError:  # nobody holds the other end any more
                break
    return said


def test_one_network_by_one_variable(tmp_path: Path) -> None:
    asked = ask(tmp_path, "home", HANDFAST_WIFI_PASSWORD=SECRET)
    assert asked.found == {"home": SECRET}
    assert asked.said == ""


def test_several_networks_by_ssid_in_the_order_given(tmp_path: Path) -> None:
    both = json.dumps({"Café": SECRET, "home": OTHER, "unused": "x"})
    asked = ask(tmp_path, "home", "Café", HANDFAST_WIFI_PASSWORDS=both)
    assert list(asked.found.items()) == [("home", OTHER), ("Café", SECRET)]


def test_children_do_not_inherit_them(tmp_path: Path) -> None:
    asked = ask(tmp_path, "home", HANDFAST_WIFI_PASSWORD=SECRET, HANDFAST_WIFI_PASSWORDS="{}")
    assert asked.found == {"home": SECRET}
    assert asked.left == []


def test_no_network_means_none_and_asks_nobody(tmp_path: Path) -> None:
    assert ask(tmp_path).found is None


def test_a_password_that_is_typed_is_not_shown(tmp_path: Path) -> None:
    asked = ask(tmp_path, "home", typed=SECRET)
    assert asked.found == {"home": SECRET}
    assert "Password of home" in asked.said
    assert SECRET not in asked.said


def test_what_is_remembered_is_not_asked_for_again(tmp_path: Path) -> None:
    assert ask(tmp_path, "home", typed=SECRET, remember=True).found == {"home": SECRET}
    kept = json.loads((tmp_path / "keyring.json").read_text())
    assert kept == {"handfast-wifi/home": SECRET}
    assert ask(tmp_path, "home").found == {"home": SECRET}
    # The environment counts more: it was set for this run.
    assert ask(tmp_path, "home", HANDFAST_WIFI_PASSWORD=OTHER).found == {"home": OTHER}


def test_nothing_is_remembered_unless_that_is_asked_for(tmp_path: Path) -> None:
    ask(tmp_path, "home", typed=SECRET)
    assert not (tmp_path / "keyring.json").exists()


@pytest.mark.parametrize(
    ("ssids", "environment", "code", "message"),
    [
        (["home"], {}, 2, "no password for home"),
        (["home", "home"], {"HANDFAST_WIFI_PASSWORD": SECRET}, 2, "named twice"),
        (["home", "work"], {"HANDFAST_WIFI_PASSWORD": SECRET}, 2, "is for one network"),
        (["home"], {"HANDFAST_WIFI_PASSWORDS": SECRET}, 2, "must be a JSON object"),
        (["home"], {"HANDFAST_WIFI_PASSWORDS": f'["{SECRET}"]'}, 2, "must be a JSON object"),
        (["home"], {"HANDFAST_WIFI_PASSWORDS": '{"home": 7}'}, 2, "must be a JSON object"),
        (
            ["home"],
            {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"},
            2,
            "no password for home",
        ),
    ],
)
def test_what_cannot_be_is_told_without_the_secret(
    tmp_path: Path, ssids: list[str], environment: dict[str, str], code: int, message: str
) -> None:
    asked = ask(tmp_path, *ssids, **environment)
    assert (asked.code, message in asked.said) == (code, True), asked.said
    assert SECRET not in asked.said
    assert "Traceback" not in asked.said


def test_a_locked_keyring_says_so(tmp_path: Path) -> None:
    asked = ask(tmp_path, "home", typed=SECRET, remember=True, KEYRING_MODEL_LOCKED="1")
    assert (asked.code, "unlock it" in asked.said) == (3, True), asked.said
    assert SECRET not in asked.said


def test_without_the_package_only_remembering_fails(tmp_path: Path) -> None:
    (tmp_path / "keyring.py").write_text("raise ImportError('not installed')\n")
    hidden = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    asked = ask(tmp_path, "home", HANDFAST_WIFI_PASSWORD=SECRET, **hidden)
    assert asked.found == {"home": SECRET}
    asked = ask(tmp_path, "home", remember=True, HANDFAST_WIFI_PASSWORD=SECRET, **hidden)
    assert (asked.code, "handfast[keyring]" in asked.said) == (3, True), asked.said
