"""``handfast ca rollover`` as people call it, without a gateway and with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.state import StateDir
from support_pki import PASSPHRASE, make_state


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: v for name, v in os.environ.items() if not name.startswith("HANDFAST_")}
    return subprocess.run(
        [sys.executable, "-m", "handfast", "ca", "rollover", *arguments, "--dir", str(folder)],
        env=kept | {"COLUMNS": "120", "HANDFAST_PASSPHRASE": PASSPHRASE.decode()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_state(tmp_path).root


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_rollover_begins_in_the_files_and_a_gateway_publishes_it_later(folder: Path) -> None:
    before = _json(_run(folder, "status", "--json"))
    assert before["server"]["next"] is None
    begun = _run(folder, "server", "--json")
    assert "when one is started" in begun.stderr
    status = _json(begun)
    assert status["server"]["in_use"] == before["server"]["in_use"]
    assert status["server"]["next"]
    assert _json(_run(folder, "status", "--json")) == status
    again = _run(folder, "server")
    assert again.returncode == 5
    assert "already" in again.stderr
    assert status["server"]["next"] in _run(folder, "status").stdout


def test_a_root_rollover_says_that_the_server_ca_is_to_follow(folder: Path) -> None:
    before = _json(_run(folder, "status", "--json"))["root"]["in_use"]
    shown = _run(folder, "root")
    assert shown.returncode == 0, shown.stderr
    assert "roll it over as well" in shown.stdout
    status = _json(_run(folder, "status", "--json"))["root"]
    assert status["old"] == before
    assert status["old_signed_server_ca"] is True


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("server", "--switch"), 4),
        (("root", "--retire"), 4),
        (("server", "--switch", "--root-dir", "/x"), 2),
        (("root", "--retire", "--passphrase-file", "/x"), 2),
        (("server", "--root-passphrase-file", "/x"), 2),
        (("server", "--root-dir", "/nowhere"), 2),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(
    folder: Path, arguments: tuple[str, ...], code: int
) -> None:
    done = _run(folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")


# With a gateway, and a device that never reports


@pytest.fixture
def gateway(folder: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(StateDir(folder), PASSPHRASE, GatewayOptions()) as gateway:
        gateway.admin.add_device("silent")
        yield gateway


def _in_use(folder: Path) -> str:
    found: str = _json(_run(folder, "status", "--json"))["server"]["in_use"]
    return found


@pytest.mark.parametrize("as_json", [False, True])
def test_switch_has_the_new_server_ca_take_over_whoever_is_waited_for(
    folder: Path, gateway: GatewayProcess, as_json: bool
) -> None:
    old = _in_use(folder)
    begun = _json(_run(folder, "server", "--json"))["server"]
    assert begun["in_use"] == old
    assert [one["device_id"] for one in begun["waiting_for"]] == ["silent"]
    switched = _run(folder, "server", "--switch", *(["--json"] if as_json else []))
    assert switched.returncode == 0, switched.stderr
    status = _json(_run(folder, "status", "--json"))["server"]
    assert (status["in_use"], status["next"]) == (begun["next"], None)
    if as_json:
        assert json.loads(switched.stdout)["server"] == status
    else:
        assert status["in_use"] in switched.stdout
    assert [one["event"] for one in gateway.admin.audit()].count("server-ca-switched") == 1
    again = _run(folder, "server", "--switch")
    assert (again.returncode, again.stdout) == (5, "")


@pytest.mark.parametrize("as_json", [False, True])
def test_retire_publishes_the_old_root_no_more_whoever_is_waited_for(
    folder: Path, gateway: GatewayProcess, as_json: bool
) -> None:
    begun = _json(_run(folder, "root", "--json"))["root"]
    assert begun["old"]
    assert [one["device_id"] for one in begun["waiting_for"]] == ["silent"]
    retired = _run(folder, "root", "--retire", *(["--json"] if as_json else []))
    assert retired.returncode == 0, retired.stderr
    status = _json(_run(folder, "status", "--json"))["root"]
    assert (status["in_use"], status["old"]) == (begun["in_use"], None)
    if as_json:
        assert json.loads(retired.stdout)["root"] == status
    else:
        assert begun["old"] not in retired.stdout
    assert [one["event"] for one in gateway.admin.audit()].count("root-retired") == 1
    again = _run(folder, "root", "--retire")
    assert (again.returncode, again.stdout) == (5, "")
