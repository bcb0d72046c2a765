"""What no report may show: every secret that is known, and what looks like one."""

from __future__ import annotations

import re

HIDDEN = "[secret]"
_SHORTEST = 4  # hiding "a" wherever it stands would leave no report
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----.*?(?:-----END (?P=kind)-----|\Z)", re.DOTALL
)
_CREDENTIALS = re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)\S+")
_NAMED = re.compile(
    r"(?i)(\b(?:password|passphrase|passwd|secret|token|api_key|psk)['\"]?\s*[:=]\s*)"
    r"(?P<quote>['\"])(?:\\.|(?!(?P=quote)).)+(?P=quote)"
)


class Secrets:
    """The secrets that are known in this process."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def add(self, secret: str) -> None:
        """Hide this from now on; what is too short to be a secret is left alone."""
        if len(secret) >= _SHORTEST:
            self._known |= {secret, repr(secret)[1:-1]}

    def redact(self, text: str) -> str:
        """Return the text without secrets: known ones, private keys, credentials, passwords.

        It has as many lines as before.
        """
        for secret in sorted(self._known, key=len, reverse=True):
            text = text.replace(secret, _hidden(secret))
        text = _PRIVATE_KEY.sub(lambda found: _hidden(found[0]), text)
        text = _CREDENTIALS.sub(rf"\g<1>{HIDDEN}", text)
        return _NAMED.sub(rf"\g<1>{HIDDEN}", text)


def _hidden(secret: str) -> str:
    return "\n".join([HIDDEN] * (secret.count("\n") + 1))
