from __future__ import annotations

from pathlib import Path

import pytest

from handfast.pki.authorities import Authority, create_authorities, load_authority
from handfast.state import StateDir

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="session")
def ca_folder(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    """A state folder with CAs; made once, an RSA-4096 root takes a while. Copy it."""
    state = StateDir(tmp_path_factory.mktemp("authorities"))
    create_authorities(state, PASSPHRASE, trust_domain="example.test")
    return state


@pytest.fixture(scope="session")
def authorities(ca_folder: StateDir) -> dict[str, Authority]:
    names = ("root", "device", "factory", "server", "admin")
    return {name: load_authority(ca_folder, name, PASSPHRASE) for name in names}


@pytest.fixture
def vectors() -> Path:
    return Path(__file__).parents[2] / "vectors"
