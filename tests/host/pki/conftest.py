from __future__ import annotations

import pytest

from handfast.pki.authorities import Authority
from support_pki import load_all, make_state


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    return load_all(make_state(tmp_path_factory.mktemp("pki")))
