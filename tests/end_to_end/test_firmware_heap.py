"""Does a heap break into pieces when a board lets modules go and reads them again, life on life?"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from pathlib import Path

from provision_support import running_gateway

from handfast.admin_client import AdminClient
from handfast.boards.builder import build_simulator
from handfast.boards.device_library import device_library

_RENEWALS = 12
_HEAP_KB = 192
_MBEDTLS_PIECE = 17 * 1024
_ANCHOR_KEYS = ("api_url", "enrol_url", "tsa_url", "trust_domain")


def provisioned_store(admin: AdminClient, store: Path) -> str:
    """What provisioning writes to a board, in a folder."""
    (store / "anchor").mkdir(parents=True)
    admin.add_device("heap")
    trust = admin.trust()
    for number, anchor in enumerate(trust["tls_anchors"]):
        (store / "anchor" / f"tls-{number}.der").write_bytes(base64.b64decode(anchor))
    config = {"schema": 1, "device_id": "heap"} | {key: trust[key] for key in _ANCHOR_KEYS}
    (store / "config.json").write_text(json.dumps(config))
    token = admin.create_token("heap", lifetime_s=3600)["token"]
    (store / "secret.json").write_text(json.dumps({"token": token, "wifi": {}}))
    (store / "seed").write_bytes(secrets.token_bytes(32))
    return str(store)


def test_heap_stays_in_one_piece_over_many_renewals(tmp_path: Path) -> None:
    library = tmp_path / "lib" / "mtls"
    library.mkdir(parents=True)
    for name, content in device_library("1.26.1", 6).files.items():
        (library / name).write_bytes(content)
    script = Path(__file__).with_name("heap_over_renewals.py")
    with running_gateway(tmp_path / "gateway") as (_, gateway):
        store = provisioned_store(gateway.admin, tmp_path / "store")
        program = build_simulator("sim-esp32")
        done = subprocess.run(
            [program, "-X", f"heapsize={_HEAP_KB}k", script, store, str(_RENEWALS)],
            env={**os.environ, "MICROPYPATH": f".frozen:{library.parent}"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [number for number, _, _ in rows] == list(range(_RENEWALS))
    # The first renewal is where it settles; from then on nothing is lost, neither heap nor piece.
    _, first, free = rows[1]
    assert min(piece for _, piece, _ in rows[1:]) > max(first - 6 * 1024, 2 * _MBEDTLS_PIECE)
    assert min(left for _, _, left in rows[1:]) > free - 1024
