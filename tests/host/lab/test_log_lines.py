"""Reading the gateway's log while it is written: whole lines, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handfast.lab.demo.gateway_log import log_lines

LINES = [{"number": number, "text": "x" * number} for number in range(4)]
WHOLE = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)


@pytest.mark.parametrize("written", range(len(WHOLE) + 1))
def test_lines_that_begin_after_the_start_and_have_ended_are_read(
    tmp_path: Path, written: int
) -> None:
    log = tmp_path / "gateway.log"
    log.write_bytes(WHOLE[:written])
    for start in range(written + 1):
        begun = WHOLE[:start].count(b"\n") + (start > 0 and WHOLE[start - 1 : start] != b"\n")
        assert log_lines(log, start) == LINES[begun : WHOLE[:written].count(b"\n")]
