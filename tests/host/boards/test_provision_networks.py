"""Which networks a board is told of when it is provisioned again."""

from __future__ import annotations

from typing import Any

import pytest

from handfast.boards.identify import BoardFacts
from handfast.boards.provision import _networks

PORT = {"ethernet": "LAN8720", "mdc": 23}
OTHER = {"ethernet": "WIZNET5K", "spi": 0}


@pytest.mark.parametrize(
    ("told", "has_wifi", "wifi", "ethernet", "networks"),
    [
        (None, True, None, None, []),
        ("damaged", True, None, None, []),
        ([PORT, "home", 7], True, None, None, [PORT, "home"]),
        ([PORT, "home"], False, None, None, [PORT]),
        ([PORT, "home"], True, {"b": "p", "a": "q"}, None, [PORT, "b", "a"]),
        ([PORT, "home"], True, None, OTHER, [OTHER, "home"]),
        ([PORT, "home"], True, {"new": "p"}, OTHER, [OTHER, "new"]),
        (["home"], True, {}, None, []),
    ],
)
def test_what_is_given_replaces_its_own_kind_only(
    told: Any, has_wifi: bool, wifi: Any, ethernet: Any, networks: list[Any]
) -> None:
    config = {} if told is None else {"networks": told}
    facts = BoardFacts("00", "sim", (1, 26, 1), config, has_wifi, 0, inflates=False)
    assert _networks(facts, wifi, ethernet) == networks
