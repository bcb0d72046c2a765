from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handfast.pki.authorities import load_authority
from handfast.pki.keystore import load_key
from handfast.state import StateDir
from support_pki import TRUST_DOMAIN, make_state

_SECRET = "Tr0ub4dor-and-three"
_DEADLINE_S = 60.0


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: v for name, v in os.environ.items() if not name.startswith("HANDFAST_")}
    return kept | {"COLUMNS": "100"} | variables


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "handfast", "ca", *arguments]


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*arguments),
        env=_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )


def test_init_makes_cas_that_show_describes_and_no_output_has_the_passphrase(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(_SECRET + "\n")
    folder = ["--dir", str(tmp_path / "state")]
    made = _run(
        "init", *folder, "--trust-domain", "fleet.test", "--passphrase-file", str(secret), "--json"
    )
    assert made.returncode == 0, made.stderr
    shown = _run("show", *folder, "--json")
    assert json.loads(shown.stdout) == json.loads(made.stdout)
    document = json.loads(shown.stdout)
    assert document["trust_domain"] == "fleet.test"
    keys = {row["name"]: row["key"] for row in document["authorities"]}
    assert keys == {
        "root": "RSA-4096",
        "device": "P-256",
        "factory": "P-256",
        "server": "RSA-2048",
        "admin": "P-256",
    }
    issues = {row["name"]: row["may_issue"] for row in document["authorities"]}
    assert issues["server"] == ["serverAuth", "timeStamping", "OCSPSigning"]
    assert issues["device"] == ["clientAuth", "OCSPSigning"]
    for path in (tmp_path / "state").rglob("*"):
        assert path.is_dir() or _SECRET.encode() not in path.read_bytes()
    assert _SECRET not in made.stdout + made.stderr + shown.stdout + shown.stderr


def test_init_keeps_the_roots_key_where_it_is_told_to(tmp_path: Path) -> None:
    folder, apart = tmp_path / "state", tmp_path / "usb"
    options = ("init", "--dir", str(folder), "--root-dir", str(apart))
    silent = _run(*options, HANDFAST_PASSPHRASE=_SECRET)
    assert silent.returncode == 2
    assert "HANDFAST_ROOT_PASSPHRASE" in silent.stderr
    made = _run(*options, HANDFAST_PASSPHRASE=_SECRET, HANDFAST_ROOT_PASSPHRASE="another")
    assert made.returncode == 0, made.stderr
    assert "offline" not in made.stderr
    assert [path.name for path in apart.iterdir()] == ["root-key.pem"]
    load_key(apart / "root-key.pem", b"another")


def test_init_says_that_the_roots_key_does_not_belong_beside_the_others(tmp_path: Path) -> None:
    made = _run("init", "--dir", str(tmp_path / "state"), "--json", HANDFAST_PASSPHRASE=_SECRET)
    assert made.returncode == 0
    assert str(StateDir(tmp_path / "state").ca_key("root")) in made.stderr
    assert "offline" in made.stderr


def test_show_for_people_names_every_ca_and_where_it_is(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    shown = _run("show", "--dir", str(state.root))
    assert shown.returncode == 0
    assert TRUST_DOMAIN in shown.stdout
    for name in ("root", "device", "factory", "server", "admin"):
        assert f"Handfast {name} CA" in shown.stdout
    assert "serverAuth, timeStamping, OCSPSigning" in shown.stdout


def test_a_folder_named_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    folder = make_state(tmp_path).root.rename(tmp_path / "[bold]x")
    shown = _run("show", "--dir", str(folder), COLUMNS="400")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count(f"{folder}/ca") == 6


def test_the_folder_may_come_from_the_environment(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    shown = _run("show", "--json", HANDFAST_DIR=str(state.root))
    assert {row["path"] for row in json.loads(shown.stdout)["authorities"]} > {
        str(state.ca_certificate("root"))
    }


@pytest.mark.parametrize("command", ["init", "show"])
def test_one_line_says_what_is_wrong_and_what_to_do(tmp_path: Path, command: str) -> None:
    refused = _run(command, "--dir", str(tmp_path / "none"))
    hint = {"init": "HANDFAST_PASSPHRASE", "show": "handfast ca init"}[command]
    assert refused.returncode == {"init": 2, "show": 3}[command]
    assert hint in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stdout == ""
    assert not (tmp_path / "none").exists()


def test_init_never_replaces_cas(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    before = state.ca_key("root").read_bytes()
    refused = _run("init", "--dir", str(state.root), HANDFAST_PASSPHRASE=_SECRET)
    assert refused.returncode == 5
    assert "already" in refused.stderr
    assert state.ca_key("root").read_bytes() == before


def test_a_bad_trust_domain_is_a_usage_error(tmp_path: Path) -> None:
    refused = _run(
        "init", "--dir", str(tmp_path / "s"), "--trust-domain", "A/B", HANDFAST_PASSPHRASE=_SECRET
    )
    assert refused.returncode == 2
    assert "trust domain" in refused.stderr


def test_a_folder_that_cannot_be_written_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = _run("init", "--dir", str(tmp_path / "file" / "s"), HANDFAST_PASSPHRASE=_SECRET)
    assert refused.returncode == 3
    assert "--dir" in refused.stderr


def test_ctrl_c_leaves_the_cas_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    process = subprocess.Popen(
        _command("init", "--dir", str(folder)),
        env=_environment(HANDFAST_PASSPHRASE=_SECRET),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The threads that search for the keys are running: it is past its imports and its checks.
    tasks = Path(f"/proc/{process.pid}/task")
    deadline = time.monotonic() + _DEADLINE_S
    while process.poll() is None and len(list(tasks.iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    code = process.wait(_DEADLINE_S)
    if code == 0:  # It was faster than the signal.
        assert _run("show", "--dir", str(folder)).returncode == 0
    else:
        assert code == 130
        assert not (folder / "ca").exists()
        assert not folder.exists() or list(folder.iterdir()) == []


def _answer(terminal: int, answers: list[str]) -> str:
    """Type one answer for each question that appears; return all that was shown."""
    shown = ""
    for answer in answers:
        asked = len(shown)
        while not shown[asked:].rstrip(" ").endswith(":"):
            readable, _, _ = select.select([terminal], [], [], _DEADLINE_S)
            assert readable, shown
            shown += os.read(terminal, 1024).decode()
        os.write(terminal, answer.encode() + b"\n")
    return shown


def test_init_asks_for_the_passphrase_twice_without_an_echo(tmp_path: Path) -> None:
    terminal, their_end = os.openpty()
    process = subprocess.Popen(
        _command("init", "--json", "--dir", str(tmp_path / "state")),
        env=_environment(),
        stdin=their_end,
        stdout=subprocess.PIPE,
        stderr=their_end,
        text=True,
        start_new_session=True,
    )
    os.close(their_end)
    try:
        shown = _answer(terminal, [_SECRET, "a slip", _SECRET, _SECRET])
        printed, _ = process.communicate(timeout=_DEADLINE_S)
    finally:
        process.kill()
        os.close(terminal)
    assert process.returncode == 0, shown
    assert "do not match" in shown
    assert _SECRET not in shown + printed
    load_authority(StateDir(tmp_path / "state"), "device", _SECRET.encode())
