"""Which trust anchors a board takes and lets go: the decision, and what a board does of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from device_interpreter import run_script
from device_pki import SERVER_AUTH, encoded
from est_peer import EstPeer, certs_only, response, tls_context
from hostile_peer import serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mtls.rollover import decide
from rollover_pki import NEW, T, der, pki, plan, sha


def names(ders: Sequence[bytes]) -> list[str]:
    by_der = {encoded(certificate): name for name, certificate in pki().items()}
    return [by_der[one] for one in ders]


def decided(
    tls: Sequence[str], roots: Sequence[str], published: Sequence[str], by: str | None = None
) -> tuple[list[str], list[str], list[str], list[str], bool]:
    verified_by = sha(by) if by else None
    *changes, complete = decide(der(*tls), der(*roots), der(*published), verified_by, T)
    to_root, to_tls, from_tls, from_root = map(names, changes)
    return to_root, to_tls, from_tls, from_root, complete


# ---- The course of a rollover ----


def test_nothing_changes_while_nothing_is_rolled_over() -> None:
    assert decided(["server"], ["root"], ["root", "server", "device"]) == ([], [], [], [], True)


def test_a_new_server_ca_is_taken_and_the_old_one_let_go_by_word_of_the_new() -> None:
    both = ["server", "server2"]
    assert decided(["server"], ["root"], ["root", *both]) == ([], ["server2"], [], [], True)
    assert decided(both, ["root"], ["root", "server2"], "server2") == (
        *([], [], ["server"], []),
        True,
    )


def test_a_new_root_is_taken_through_the_old_one_and_what_it_signed_with_it() -> None:
    published = ["new-root", "root", "new-with-old", "old-with-new", "server", "server3"]
    assert decided(["server"], ["root"], published) == (["new-root"], ["server3"], [], [], True)


def test_the_old_root_goes_when_it_is_published_no_more() -> None:
    held = ["root", "new-root"]
    published = ["new-root", "old-with-new", "server3"]
    assert decided(["server3"], held, published)[3] == ["root"]
    assert decided(["server3"], held, [*published, "root"])[3] == []


@pytest.mark.parametrize("by", ["server", None])
def test_an_anchor_stays_until_another_one_has_spoken(by: str | None) -> None:
    outcome = decided(["server", "server2"], ["root"], ["root", "server2"], by)
    assert outcome == ([], [], [], [], False)


# ---- Who lies ----


@pytest.mark.parametrize(
    "more",
    [
        ["foreign"],
        ["device"],
        ["self-made"],
        ["self-made", "self-made-link"],
        ["self-made", "server-as-link"],
        ["new-root"],
        ["new-root", "old-with-new"],
        ["new-with-old"],
        ["leaf"],
        ["over"],
        ["server3"],
    ],
    ids="-and-".join,
)
def test_what_no_held_root_vouches_for_changes_nothing(more: list[str]) -> None:
    outcome = decided(["server"], ["root"], ["root", "server", *more])
    assert outcome == ([], [], [], [], True)


@pytest.mark.parametrize(
    ("roots", "published"),
    [
        (["new-root"], ["root", "old-with-new", "new-root", "server3"]),
        (["new-root"], ["root", "old-with-new", "server3"]),
        (["root", "new-root"], ["root", "old-with-new", "server3"]),
        (["root", "new-root"], ["root", "new-root", "server", "server3"]),
    ],
    ids=["a-former-root", "the-former-root-alone", "without-the-new-one", "a-former-server-ca"],
)
def test_no_way_leads_back(roots: list[str], published: list[str]) -> None:
    to_root, to_tls, from_tls, from_root, _ = decided(["server3"], roots, published)
    assert (to_root, to_tls, from_tls, from_root) == ([], [], [], [])


def test_the_old_ones_alone_do_not_take_the_new_ones_away() -> None:
    held = ["server", "server2"]
    assert decided(held, ["root", "new-root"], ["root", "server"], "server")[2:4] == ([], [])


def test_a_list_without_any_of_ours_takes_nothing_away() -> None:
    assert decided(["server"], ["root"], ["foreign", "self-made"])[2:4] == ([], [])


def test_few_are_kept_however_many_are_signed() -> None:
    many = [
        encoded(plan("server", f"s{n}", "root", NEW + timedelta(hours=n), eku=[SERVER_AUTH]).make())
        for n in range(6)
    ]
    _, to_tls, _, _, complete = decide(der("server"), der("root"), many, None, T)
    assert len(to_tls) == 3
    assert not complete


def some(*choices: str, least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(choices), unique=True, min_size=least)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tls=some("server", "server2", "server3", least=1),
    roots=some("root", "new-root", least=1),
    published=some(*pki()),
    data=st.data(),
)
def test_whatever_is_published_a_cut_anywhere_leaves_anchors_that_the_roots_vouched_for(
    tls: list[str], roots: list[str], published: list[str], data: st.DataObject
) -> None:
    by = data.draw(st.sampled_from([None, *tls]))
    to_root, to_tls, from_tls, from_root, complete = decided(tls, roots, published, by)
    assert set(to_tls) <= {"server", "server2", "server3"} & set(published)
    assert set(to_root) <= {"new-root"} & set(published)
    assert not from_tls or by in published
    assert by not in from_tls
    assert not set(from_tls) & set(published)
    assert not set(from_root) & set(published)
    after = [name for name in [*tls, *to_tls] if name not in from_tls]
    assert after, "a board without an anchor is lost"
    roots_after = [name for name in [*roots, *to_root] if name not in from_root]
    assert roots_after
    if complete:
        again = decided(after, roots_after, published, by)
        assert again == ([], [], [], [], True), "what is seen once need not be seen again"


# ---- On a board ----

Follow = Callable[..., dict[str, list[str]]]


@pytest.fixture
def follow(micropython: Path, tmp_path: Path) -> Follow:
    """Lets a board that holds ``server`` and ``root`` ask servers for cacerts, one after another.

    Returns what it holds after each, and what went wrong.
    """

    def run(*answers: tuple[str, bytes], tls: Sequence[str] = ("server",)) -> list[object]:
        folder = tmp_path / "mtls"
        (folder / "anchor").mkdir(parents=True)
        for name in tls:
            (folder / f"anchor/tls-{name}.der").write_bytes(*der(name))
        (folder / "anchor/root-0.der").write_bytes(*der("root"))
        told = []
        run.peers = []
        for issuer, answer in answers:
            peer = EstPeer(cacerts=answer)
            with serving(peer, context=tls_context(tmp_path, "server", key=issuer)) as (port, _):
                arguments = (str(folder), f"https://127.0.0.1:{port}")
                (line,) = run_script(micropython, "rollover.py", *arguments, cwd=tmp_path)
            told.append(json.loads(line))
            run.peers.append(peer)
        return told

    return run


def held(*tls: str, roots: Sequence[str] = ("root",)) -> dict[str, list[str]]:
    return {
        "tls": sorted(sha(name).hex() for name in tls),
        "root": sorted(sha(name).hex() for name in roots),
    }


def published(*chosen: str) -> bytes:
    return certs_only([pki()[name] for name in chosen])


ALL = ("new-root", "root", "new-with-old", "old-with-new", "server", "server3", "device")


def test_a_board_follows_a_rollover_and_asks_once_for_each_change(follow: Follow) -> None:
    end = published("new-root", "old-with-new", "server3", "device")
    told = follow(
        ("server", published("root", "server", "device")),
        ("server", published(*ALL)),
        ("server3", end),
        ("server3", end),
    )
    both = held("server", "server3", roots=("root", "new-root"))
    assert told == [
        [held("server"), 0, 0],
        [both, 2, 0],
        [held("server3", roots=["new-root"]), 0, 2],
        [held("server3", roots=["new-root"]), 0, 0],
    ]
    assert "If-None-Match" not in follow.peers[0].heard[0]
    tags = [hashlib.sha256(end.rpartition(b"\r\n\r\n")[2]).hexdigest()]
    assert [tag for tag in tags if f'If-None-Match: "{tag}"' in follow.peers[3].heard[0]] == tags


def test_the_old_ca_cannot_have_itself_replaced_out_of_the_way(follow: Follow) -> None:
    told = follow(("server", published("root", "server2")), tls=("server", "server2"))
    assert told == [[held("server", "server2"), 0, 0]]


@pytest.mark.parametrize(
    "answer",
    [
        published("foreign", "self-made", "self-made-link", "device"),
        published("new-root", "self-made", "server-as-link"),
        response(status="404 Not Found"),
        response(b"AAAA"),
        response(b"!" * 20_000),
        response(status="304 Not Modified"),
    ],
    ids=["foreign", "no-link", "404", "noise", "endless", "304-unasked"],
)
def test_an_answer_that_is_none_changes_nothing_and_leaves_nothing_on_flash(
    follow: Follow, tmp_path: Path, answer: bytes
) -> None:
    ((after, added, dropped),) = follow(("server", answer))
    assert (after, added, dropped) == (held("server"), 0, 0)
    left = {path.name for path in (tmp_path / "mtls/anchor").iterdir()}
    assert left <= {"tls-server.der", "root-0.der", "cacerts"}
