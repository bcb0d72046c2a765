"""Boards behind labgrid (``--lg-env``); labgrid is imported when a run has asked for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.selection import Candidate

LABGRID = "labgrid"  # what --handfast-board calls them
_ENV = "lg_env"  # labgrid's own option
_VARIABLE = "LG_ENV"  # and its own variable


def is_asked_for(config: pytest.Config) -> bool:
    """Say whether labgrid's plugin is there and was given an environment."""
    return hasattr(config.option, _ENV) and bool(
        config.getoption(_ENV) or os.environ.get(_VARIABLE)
    )


def labgrid_boards(config: pytest.Config) -> list[Candidate]:
    """Return the boards of the run's labgrid environment.

    Raises:
        pytest.UsageError: there is none, or none in it.
    """
    if not is_asked_for(config):
        raise pytest.UsageError(
            "--handfast-board labgrid needs labgrid (pip install 'handfast[labgrid]') and --lg-env"
        )
    from labgrid.pytestplugin.hooks import LABGRID_ENV_KEY

    from handfast.errors import UsageError
    from handfast.lab.labgrid.places import places

    try:
        return places(config.stash[LABGRID_ENV_KEY])
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
