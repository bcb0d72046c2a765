"""`make soak` in its shortest form: the network goes down and comes up once in each of its ways."""

from __future__ import annotations

import json
from pathlib import Path

from tests.soak.__main__ import main


def test_the_network_comes_up_again(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    assert main(["--count", "1", "--json", str(out)]) == 0
    outcomes = json.loads(out.read_text())
    assert [(outcome["done"], outcome["lost"]) for outcome in outcomes] == [(1, 0), (1, 0)]
