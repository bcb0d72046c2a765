"""A password in a URL reaches whom it is for, and is not in anything that is shown."""

from __future__ import annotations

import base64
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handfast.boards.addresses import Address

SHOWN = "https://host.example:8443/npm"
TEXT = st.text(st.characters(exclude_categories=("Cs",)))
NAME = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


def basic(credentials: bytes) -> str:
    return f"Basic {base64.b64encode(credentials).decode()}"


def with_user(user: str) -> str:
    return SHOWN.replace("//", f"//{user}@", 1)


def taken_apart(text: str) -> Address | str:
    """Return the address, or why there is none."""
    try:
        return Address.parse(text)
    except ValueError as error:
        return str(error)


@given(name=NAME, password=TEXT)
def test_an_encoded_password_is_sent_and_not_shown(name: str, password: str) -> None:
    address = Address.parse(with_user(f"{name}:{quote(password, safe='')}"))
    assert address.url == str(address) == SHOWN
    assert repr(address) == f"Address(url={SHOWN!r})"
    assert address.authorization == basic(f"{name}:{password}".encode())


@given(name=NAME, password=TEXT)
@example(name="ada", password="12/ss")
@example(name="ada", password="p@ss/")
@example(name="ada", password="p@ss/@x")
@example(name="ada", password="://a@b")
@example(name="ada", password="\n")
def test_a_raw_password_is_sent_or_refused_and_never_shown(name: str, password: str) -> None:
    found = taken_apart(with_user(f"{name}:{password}"))
    if isinstance(found, str):
        assert set("/?#") & set(password)
        assert found.startswith(f"{SHOWN} has an @ behind what may be its host's name: in a name ")
        assert found.endswith(" in a path @ as %40")
    else:
        assert not set("/?#") & set(password)
        assert repr(found) == f"Address(url={SHOWN!r})"
        assert found.authorization == basic(unquote_to_bytes(f"{name}:{password}"))


@given(password=TEXT)
def test_a_password_is_not_shown_where_the_scheme_is_missing(password: str) -> None:
    shown = str(taken_apart(f"ada:{password}@host/npm"))
    assert shown.removeprefix("ada://").startswith("host/npm")


@given(text=TEXT)
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    found = taken_apart(text)
    if isinstance(found, Address):
        assert "@" not in found.url
    else:
        assert found.endswith((" is not a URL", "%40"))


@pytest.mark.parametrize(
    "url", ["https://host/x", "http://[::1]:8080/y?z#w", "file:/srv/mirror", "file:///srv/mirror"]
)
def test_a_url_without_a_user_stays_as_it_is(url: str) -> None:
    assert Address.parse(url) == Address(url)


def test_what_is_below_has_the_same_password() -> None:
    below = Address.parse(with_user("ada:x")).below("@scope/thing")
    assert below == Address(f"{SHOWN}/@scope/thing", basic(b"ada:x"))


def test_a_name_without_a_password_is_sent() -> None:
    assert Address.parse(with_user("token")).authorization == basic(b"token")
    assert Address.parse(with_user("")).authorization is None


@pytest.mark.parametrize("url", ["https://[::1/x", "https://h:port/x", "https://h/a b", "h", ""])
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        Address.parse(url)
