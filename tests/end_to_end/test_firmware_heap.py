"""Does a heap break into pieces when a board lets modules go and reads them again, life on life?"""

from __future__ import annotations

from pathlib import Path

import pytest
from provision_support import running_gateway
from script_rig import run_script, write_store

_RENEWALS = 12
_HEAP_KB = 192
_MBEDTLS_PIECE = 17 * 1024


@pytest.mark.parametrize("profile", ["sim-esp32", "sim-esp32+1.25.0"])
def test_heap_stays_in_one_piece_over_many_renewals(tmp_path: Path, profile: str) -> None:
    script = Path(__file__).with_name("heap_over_renewals.py")
    store = tmp_path / "store"
    with running_gateway(tmp_path / "gateway") as (_, gateway):
        write_store(gateway.admin, store, "heap", anchors=True)
        printed = run_script(
            *(tmp_path, script, str(store), str(_RENEWALS)),
            profile=profile,
            heap=f"{_HEAP_KB}k",
            timeout_s=240,
        )
    rows = [tuple(map(int, line.split())) for line in printed]
    assert [number for number, _, _ in rows] == list(range(_RENEWALS))
    # The first renewal is where it settles; from then on nothing is lost, neither heap nor piece.
    _, first, free = rows[1]
    assert min(piece for _, piece, _ in rows[1:]) > max(first - 6 * 1024, 2 * _MBEDTLS_PIECE)
    assert min(left for _, _, left in rows[1:]) > free - 1024
