"""URLs that may have a user's name and password in them, as registries and mirrors are set up.

Such a URL is taken apart once, where it comes in. From there on the name and the password are apart
from what is asked for, shown and logged. The last @ of the URL ends them, whatever comes before it:
a / in a password that nobody has encoded would otherwise end the host's name (RFC 3986, 3.2).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes, urlsplit

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:(?P<slashes>//)?)(?P<rest>.*)", re.DOTALL)
_ENDS_AUTHORITY = re.compile(r"[/?#]")
_IN_NO_URL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Address:
    """Where something is fetched from.

    Attributes:
        url: without user information, fit to be shown.
        authorization: the header's value that the URL asked for (RFC 7617); None for none.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Take a URL apart.

        Raises:
            ValueError: it is none, or could be read in two ways; fit to be shown.
        """
        found = _URL.fullmatch(text)
        user, at, rest = found["rest"].rpartition("@") if found else ("", "", text)
        if found is None or (at and not found["slashes"]):
            raise ValueError(f"{_shown(text)} is not a URL")
        if _ENDS_AUTHORITY.search(user):
            raise ValueError(
                f"{_shown(text)} has an @ behind what may be its host's name: in a name or a "
                "password write / as %2F, ? as %3F, # as %23 and @ as %40, in a path @ as %40"
            )
        url = found["scheme"] + rest
        if not _is_url(url):
            raise ValueError(f"{url} is not a URL")
        return cls(url, _basic(user) if user else None)

    def below(self, path: str) -> Address:
        """Return the address of what is below this one."""
        return Address(f"{self.url}/{path}", self.authorization)

    def __str__(self) -> str:
        return self.url


def _shown(text: str) -> str:
    """Return what is no password in any reading of the text."""
    found = _URL.fullmatch(text)
    if found is None or not found["slashes"]:
        return text.rpartition("@")[2]
    return found["scheme"] + found["rest"].rpartition("@")[2]


def _is_url(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return _IN_NO_URL.search(url) is None


def _basic(user: str) -> str:
    return f"Basic {base64.b64encode(unquote_to_bytes(user)).decode()}"
