"""CAs that follow each other, in files: what is published, who verifies, what a crash leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.errors import EnvironmentProblem, Refused
from handfast.pki import rollover
from handfast.pki.authorities import (
    Authority,
    RootKeeping,
    create_authorities,
    load_authority,
    load_certificates,
)
from handfast.pki.issue import issue_server_leaf
from handfast.pki.rollover import (
    Published,
    begin_root_rollover,
    begin_server_rollover,
    fingerprint,
    issued_by,
    load_next_server,
    load_published,
    retire_old_root,
    switch_server,
)
from handfast.state import StateDir
from support_pki import PASSPHRASE, make_state


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An RSA-4096 key takes seconds; what is tested here does not depend on its length."""
    monkeypatch.setattr(rollover, "generate_key", lambda *_: rsa.generate_private_key(65537, 2048))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return make_state(tmp_path)


def accepts(
    folder: Path, root: x509.Certificate, leaf: x509.Certificate, behind: Sequence[x509.Certificate]
) -> bool:
    """Tell whether OpenSSL takes a leaf with what is sent behind it, by that root alone."""
    files = {"root": [root], "leaf": [leaf], "behind": behind}
    for name, certificates in files.items():
        pem = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
        (folder / f"{name}.pem").write_bytes(pem)
    verify = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-purpose", "sslserver"]
    options = ["-CAfile", folder / "root.pem", "-untrusted", folder / "behind.pem"]
    done = subprocess.run(
        [*verify, *options, folder / "leaf.pem"], capture_output=True, timeout=20, check=False
    )
    return done.returncode == 0


def leaf_of(authority: Authority) -> x509.Certificate:
    pair = issue_server_leaf(
        authority, key_kind="p256", names=["g"], lifetime_s=3600, now=datetime.now(UTC)
    )
    return pair.certificate


def test_the_next_server_ca_is_published_beside_the_one_in_use_and_then_takes_its_place(
    state: StateDir,
) -> None:
    old = load_published(state).server
    new = begin_server_rollover(state, PASSPHRASE)
    published = load_published(state)
    assert published.server_cas == [old, new]
    assert published.server == old
    assert new.subject == old.subject, "one name, so that a chain is told by its key"
    assert issued_by(new, published.root)
    assert load_next_server(state, PASSPHRASE).certificate == new
    switch_server(state)
    assert load_published(state).server_cas == [new]
    assert load_authority(state, "server", PASSPHRASE).certificate == new


def test_one_rollover_at_a_time_and_none_to_end_when_none_is_under_way(state: StateDir) -> None:
    with pytest.raises(Refused, match="ca rollover server"):
        switch_server(state)
    with pytest.raises(Refused, match="ca rollover root"):
        retire_old_root(state)
    begin_server_rollover(state, PASSPHRASE)
    with pytest.raises(Refused, match="already"):
        begin_server_rollover(state, PASSPHRASE)
    begin_root_rollover(state, PASSPHRASE)
    with pytest.raises(Refused, match="already"):
        begin_root_rollover(state, PASSPHRASE)


@pytest.mark.parametrize("begin", [begin_server_rollover, begin_root_rollover])
def test_a_wrong_passphrase_changes_nothing(state: StateDir, begin: object) -> None:
    before = load_published(state)
    with pytest.raises(Refused, match="passphrase"):
        begin(state, b"wrong")  # type: ignore[operator]
    assert load_published(state) == before
    assert not list(state.ca.glob(".next-*"))


def test_a_new_root_and_the_old_one_certify_each_other(state: StateDir) -> None:
    old = load_certificates(state)["root"]
    new = begin_root_rollover(state, PASSPHRASE)
    published = load_published(state)
    assert published.roots == [new, old]
    new_with_old, old_with_new = published.new_with_old, published.old_with_new
    assert new_with_old is not None
    assert old_with_new is not None
    assert issued_by(new_with_old, old)
    assert new_with_old.public_key() == new.public_key()
    assert issued_by(old_with_new, new)
    assert old_with_new.public_key() == old.public_key()
    assert old_with_new.not_valid_after_utc == old.not_valid_after_utc
    assert load_authority(state, "root", PASSPHRASE).certificate == new


def test_whoever_holds_either_root_takes_the_gateways_leaf_all_the_way(
    state: StateDir, tmp_path: Path
) -> None:
    old = load_certificates(state)["root"]
    new = begin_root_rollover(state, PASSPHRASE)

    def who_accepts() -> list[bool]:
        leaf = leaf_of(load_authority(state, "server", PASSPHRASE))
        behind = load_published(state).behind_server
        return [accepts(tmp_path, root, leaf, behind) for root in (old, new)]

    assert load_published(state).old_root_is_needed
    assert who_accepts() == [True, True]
    begin_server_rollover(state, PASSPHRASE)
    switch_server(state)
    assert not load_published(state).old_root_is_needed
    assert who_accepts() == [True, True]
    retire_old_root(state)
    assert who_accepts() == [False, True]


def test_an_old_root_that_is_retired_is_published_no_more_but_vouched_for(state: StateDir) -> None:
    """The device CA is still of the old root: who looks at cacerts finds a way to the new one."""
    old = load_certificates(state)["root"]
    begin_root_rollover(state, PASSPHRASE)
    retire_old_root(state)
    published = load_published(state)
    assert old not in published.all
    assert published.new_with_old is None
    assert published.old_with_new in published.all


def test_the_roots_key_is_used_where_it_is_kept_and_its_successor_kept_there(
    tmp_path: Path,
) -> None:
    state, usb = StateDir(tmp_path / "state"), RootKeeping(tmp_path / "usb", b"other")
    create_authorities(state, PASSPHRASE, root=usb)
    with pytest.raises(EnvironmentProblem, match="--root-dir"):
        begin_server_rollover(state, PASSPHRASE)
    begin_server_rollover(state, PASSPHRASE, root=usb)
    roots = [begin_root_rollover(state, PASSPHRASE, root=usb)]
    retire_old_root(state)
    roots.append(begin_root_rollover(state, PASSPHRASE, root=usb))
    for root in roots:
        assert usb.key_of(root).stat().st_mode & 0o777 == 0o600
    assert not list(state.ca.glob("root*/key.pem"))
    with pytest.raises(Refused, match="passphrase"):
        rollover.load_root(state, PASSPHRASE, RootKeeping(usb.folder, b"wrong"))
    stranger = RootKeeping(tmp_path / "stranger", b"other")
    create_authorities(StateDir(tmp_path / "others"), PASSPHRASE, root=stranger)
    with pytest.raises(EnvironmentProblem, match="not the key"):
        rollover.load_root(state, PASSPHRASE, stranger)


@pytest.mark.parametrize("moved", [0, 1])
def test_a_switch_that_a_power_failure_cut_short_is_finished(state: StateDir, moved: int) -> None:
    new = begin_server_rollover(state, PASSPHRASE)
    state.next_server_ca.rename(state.ca / "server-new")
    if moved:
        (state.ca / "server").rename(state.ca / "server-old")
    assert load_published(state).server_cas == [new]
    assert load_authority(state, "server", PASSPHRASE).certificate == new
    assert (state.ca / "server-old/cert.der").exists()


def test_a_disk_that_fails_leaves_the_cas_as_they_were(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = load_published(state)
    monkeypatch.setattr(rollover, "write_authority", full)
    for begin in (begin_server_rollover, begin_root_rollover):
        with pytest.raises(EnvironmentProblem, match="No space"):
            begin(state, PASSPHRASE)
    assert load_published(state) == before


def test_a_server_ca_does_not_outlive_its_root(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            del tz
            end = load_certificates(state)["root"].not_valid_after_utc
            return end.replace(year=end.year - 1)

    monkeypatch.setattr(rollover, "datetime", Later)
    new = begin_server_rollover(state, PASSPHRASE)
    assert new.not_valid_after_utc == load_certificates(state)["root"].not_valid_after_utc


def test_what_is_published_has_each_certificate_once(state: StateDir) -> None:
    begin_root_rollover(state, PASSPHRASE)
    begin_server_rollover(state, PASSPHRASE)
    published: Published = load_published(state)
    assert len({fingerprint(one) for one in published.all}) == len(published.all) == 8
