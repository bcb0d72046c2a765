"""Whether a board came back alone is judged by what others saw of it, and by its flash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from handfast.errors import CheckFailed
from handfast.lab.demo.comeback import Aftermath, expect_back_alone

OWN = "0123456789abcdef" + "00" * 24
OTHER = "fedcba9876543210" + "00" * 24


def request(**changes: Any) -> dict[str, Any]:
    usual = {"listener": "api", "path": "/v1/ping", "status": 200, "certificate": OWN[:16]}
    return usual | changes


ALONE = Aftermath(
    boot_id="b2",
    requests=[request()],
    stored={"b1", "b2"},
    audited=["issued", "switched"],
    own={OTHER, OWN},
)


def test_a_request_by_an_own_key_without_help_is_a_return() -> None:
    expect_back_alone(ALONE)
    expect_back_alone(replace(ALONE, audited=[]))
    refused_first = request(status=401, certificate="ffff")
    expect_back_alone(replace(ALONE, requests=[refused_first, request(status=201)]))


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [request(status=401)],
        [request(status=302)],
        [request(status=None)],
        [request(listener="enrol")],
    ],
    ids=["silent", "refused", "sent elsewhere", "never answered", "enrolled and no more"],
)
def test_without_an_authorised_request_nobody_came_back(requests: list[dict[str, Any]]) -> None:
    with pytest.raises(CheckFailed, match="not one request was authorised"):
        expect_back_alone(replace(ALONE, requests=requests))


@pytest.mark.parametrize("certificate", [OTHER[:16], None])
def test_a_request_by_another_key_is_no_return(certificate: str | None) -> None:
    requests = [request(), request(certificate=certificate)]
    with pytest.raises(CheckFailed, match="whose key is not in its flash"):
        expect_back_alone(replace(ALONE, requests=requests, own={OWN}))


@pytest.mark.parametrize("boot_id", ["", "b3"])
def test_a_request_of_an_earlier_boot_is_no_return(boot_id: str) -> None:
    with pytest.raises(CheckFailed, match="nothing is stored of its boot"):
        expect_back_alone(replace(ALONE, boot_id=boot_id))


@pytest.mark.parametrize("help_given", ["token-created", "idevid-issued", "device-active", "new"])
def test_a_return_with_help_is_none(help_given: str) -> None:
    with pytest.raises(CheckFailed, match=f"it had help: {help_given}"):
        expect_back_alone(replace(ALONE, audited=["issued", help_given]))
