"""A script run by a simulated board's MicroPython, with the library and a store in folders."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
from pathlib import Path

from firmware_rig import profile_and_version

from handfast.admin_client import AdminClient
from handfast.boards.builder import build_simulator
from handfast.boards.definition import load_board
from handfast.boards.device_library import device_library

_KEYS = ("api_url", "enrol_url", "tsa_url", "trust_domain")


def write_store(admin: AdminClient, store: Path, device_id: str, *, anchors: bool) -> None:
    """Write what provisioning gives a board; without anchors it is to fetch them by the root."""
    store.mkdir()
    admin.add_device(device_id)
    trust = admin.trust()
    config = {"schema": 1, "device_id": device_id} | {key: trust[key] for key in _KEYS}
    if anchors:
        (store / "anchor").mkdir()
        for number, anchor in enumerate(trust["tls_anchors"]):
            (store / "anchor" / f"tls-{number}.der").write_bytes(base64.b64decode(anchor))
    else:
        root = base64.b64decode(trust["roots"][0])
        config["root_sha256"] = hashlib.sha256(root).hexdigest()
    (store / "config.json").write_text(json.dumps(config))
    token = admin.create_token(device_id, lifetime_s=3600)["token"]
    (store / "secret.json").write_text(json.dumps({"token": token, "wifi": {}}))
    (store / "seed").write_bytes(secrets.token_bytes(32))


def run_script(
    folder: Path, script: Path, *arguments: str, profile: str, heap: str, timeout_s: float
) -> list[str]:
    """Run a script beside the library as boards have it; returns the lines that it printed.

    ``profile`` may name a version of MicroPython, as in firmware_rig.SIMULATED.
    """
    profile, version = profile_and_version(profile)
    firmware = load_board(profile).firmware
    assert firmware is not None
    library = folder / "lib" / "mtls"
    library.mkdir(parents=True)
    for name, content in device_library(version or firmware.micropython, 6).packed.items():
        (library / name).write_bytes(content)
    done = subprocess.run(
        [
            build_simulator(profile, micropython=version),
            "-X",
            f"heapsize={heap}",
            script,
            *arguments,
        ],
        env={**os.environ, "MICROPYPATH": f".frozen:{library.parent}"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()
