from __future__ import annotations

import pytest

from handfast.lab.problem import slug_of


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b'{"type": "urn:handfast:error:device-revoked", "status": 403}', "device-revoked"),
        (b'{"type": 7}', ""),
        (b'{"status": 403}', ""),
        (b'["type"]', ""),
        (b"Forbidden", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_a_problems_name_is_read_and_nothing_else_has_one(body: bytes, slug: str) -> None:
    assert slug_of(body) == slug
