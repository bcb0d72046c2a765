"""Options that say where the root's key is kept when it is not with the gateway's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from handfast.errors import UsageError
from handfast.pki.authorities import RootKeeping, require_apart
from handfast.pki.keystore import ROOT_KEY, passphrase
from handfast.state import StateDir

root_passphrase_option = click.option(
    "--root-passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its first line encrypts the root's key in --root-dir.",
)


def root_dir_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--root-dir`` with a help text."""
    return click.option("--root-dir", type=click.Path(file_okay=False, path_type=Path), help=text)


def require_root_options(
    state: StateDir, root_dir: Path | None, passphrase_file: Path | None
) -> None:
    """Make sure that the two options make sense, before anybody types a passphrase.

    Raises:
        UsageError: they do not.
    """
    if root_dir is not None:
        require_apart(state, root_dir)
    elif passphrase_file is not None:
        raise UsageError("--root-passphrase-file goes with --root-dir")


def root_keeping(
    root_dir: Path | None, passphrase_file: Path | None, *, confirm: bool = False
) -> RootKeeping | None:
    """Return where the root's key is kept, asking for its passphrase; None: with the others."""
    if root_dir is None:
        return None
    prompt = "Passphrase for the root's key"
    secret = passphrase(prompt, file=passphrase_file, confirm=confirm, lock=ROOT_KEY)
    return RootKeeping(root_dir, secret)
