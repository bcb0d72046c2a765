"""Settings that could only fail later are refused at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast.errors import UsageError
from handfast.gateway.own_leaf import MAX_LIFETIME_S
from handfast.gateway.server.limits import Limits
from handfast.gateway.service import MAX_DEVICE_LIFETIME_S, GatewaySettings
from handfast.state import StateDir


@pytest.mark.parametrize("lifetime_s", [0, -1, MAX_DEVICE_LIFETIME_S + 1])
def test_a_device_lifetime_that_no_ca_could_give_is_refused(lifetime_s: int) -> None:
    with pytest.raises(UsageError, match="device's leaf"):
        GatewaySettings(StateDir(Path("x")), device_lifetime_s=lifetime_s)


@pytest.mark.parametrize("lifetime_s", [0, MAX_LIFETIME_S + 1])
def test_an_own_leaf_of_more_than_a_week_is_refused(lifetime_s: int) -> None:
    with pytest.raises(UsageError, match="own leaf"):
        GatewaySettings(StateDir(Path("x")), leaf_lifetime_s=lifetime_s)


def test_a_gateway_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="--name"):
        GatewaySettings(StateDir(Path("x")), names=())


@pytest.mark.parametrize(("handshake_s", "header_s"), [(60, 60), (3, Limits().header_s)])
def test_time_for_handshakes_gives_no_more_to_a_peer_without_tls(
    handshake_s: float, header_s: float
) -> None:
    settings = GatewaySettings(StateDir(Path("x")), handshake_s=handshake_s)
    by_tls = settings.limits(tls=True)
    assert (by_tls.handshake_s, by_tls.header_s) == (handshake_s, header_s)
    assert settings.limits(tls=False) == Limits()
