from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from enrol_kit import Handfast, run_handfast

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

_PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    made = StateDir(tmp_path_factory.mktemp("enrol"))
    made.root.chmod(0o700)
    create_authorities(made, _PASSPHRASE, trust_domain="example.test")
    return made


@pytest.fixture(scope="session")
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    """One gateway for all: each test has devices of its own."""
    options = GatewayOptions(overlap_s=1, device_lifetime_s=600)
    with GatewayProcess(state, _PASSPHRASE, options) as running:
        yield running


@pytest.fixture
def handfast(state: StateDir, gateway: GatewayProcess) -> Handfast:
    """The command line for the running gateway."""
    del gateway
    return partial(run_handfast, folder=state.root)
