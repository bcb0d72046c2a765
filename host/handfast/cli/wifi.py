"""Wi-Fi passwords: from the environment, the keyring or a prompt; never from the command line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from handfast.errors import EnvironmentProblem, UsageError

ONE = "HANDFAST_WIFI_PASSWORD"
MANY = "HANDFAST_WIFI_PASSWORDS"
SERVICE = "handfast-wifi"  # under which the keyring has them, by SSID


def passwords(ssids: Sequence[str], *, remember: bool = False) -> dict[str, str] | None:
    """Return SSID → password in the order of ``ssids``; None where none is named.

    Args:
        ssids: the networks.
        remember: keep what is typed in the keyring.

    Raises:
        UsageError: a network twice, no password for one and nobody to ask, or a variable that
            cannot be read.
        EnvironmentProblem: ``remember`` without a keyring.
    """
    if len(set(ssids)) != len(ssids):
        raise UsageError("a Wi-Fi network is named twice")
    if remember:
        _require_keyring()
    if not ssids:
        return None
    given = _from_environment(ssids)
    return {
        ssid: given[ssid] if ssid in given else _from_keyring_or_prompt(ssid, remember)
        for ssid in ssids
    }


def _from_environment(ssids: Sequence[str]) -> dict[str, str]:
    # Taken out of it: programs that are started from here have no use for them.
    one, many = os.environ.pop(ONE, None), os.environ.pop(MANY, None)
    found = _parse_many(many) if many is not None else {}
    if one is not None and len(ssids) == 1:
        found.setdefault(ssids[0], one)
    elif one is not None and not found:
        raise UsageError(f'{ONE} is for one network: for several set {MANY} to {{"SSID": "..."}}')
    return found


def _parse_many(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None  # the parser's message would show some of it
    if not isinstance(found, dict) or not all(isinstance(word, str) for word in found.values()):
        raise UsageError(f'{MANY} must be a JSON object, {{"SSID": "password", ...}}')
    return found


def _from_keyring_or_prompt(ssid: str, remember: bool) -> str:
    keyring = _keyring()
    if keyring is not None:
        try:
            kept: str | None = keyring.get_password(SERVICE, ssid)
        except keyring.errors.KeyringError:  # none on this machine, or locked
            kept = None
        if kept is not None:
            return kept
    if not sys.stdin.isatty():
        raise UsageError(
            f"no password for {ssid}: set {ONE} (or {MANY}), keep it in the keyring "
            "(--remember-wifi in a terminal), or run this in a terminal"
        )
    entered: str = click.prompt(f"Password of {ssid}", hide_input=True, err=True)
    if remember and keyring is not None:
        try:
            keyring.set_password(SERVICE, ssid, entered)
        except keyring.errors.KeyringError as error:
            raise _no_keyring() from error
    return entered


def _keyring() -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    return keyring


def _require_keyring() -> None:
    if _keyring() is None:
        raise EnvironmentProblem(
            "the keyring needs another package: python -m pip install 'handfast[keyring]'"
        )


def _no_keyring() -> EnvironmentProblem:
    return EnvironmentProblem(
        "this machine's keyring does not take the password: unlock it, or leave --remember-wifi out"
    )
