"""Build options: their patches fit the pinned sources exactly; what they decide is in the key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from handfast.boards import firmware_options
from handfast.boards.archives import unpack
from handfast.boards.builder import MBEDTLS_VERSION
from handfast.boards.firmware_options import (
    OPTIONS,
    apply_patches,
    checked,
    custom_dir,
    ingredients,
    variables,
)
from handfast.boards.sources import fetch, find_source
from handfast.errors import EnvironmentProblem, UsageError

VERSIONS = {"micropython": "1.26.1", "mbedtls": MBEDTLS_VERSION}
PARTS = {"micropython": ("extmod/", "py/"), "mbedtls": ("library/",)}


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, Path]:
    for name, version in VERSIONS.items():
        unpack(fetch(find_source(name, version)), tmp_path / name, parts=PARTS[name])
    return {name: tmp_path / name for name in VERSIONS}


def test_every_patch_belongs_to_an_option_and_fits_the_pinned_sources(
    trees: dict[str, Path],
) -> None:
    apply_patches(checked(OPTIONS), trees)
    there = {
        path.relative_to(custom_dir() / "patches").as_posix()
        for path in custom_dir().rglob("*.patch")
    }
    assert {patch for option in OPTIONS.values() for patch in option.patches} == there
    assert not [path for tree in trees.values() for path in tree.rglob("*.rej")]


def test_patch_for_other_sources_is_refused_and_not_guessed_at(trees: dict[str, Path]) -> None:
    changed = trees["micropython"] / "extmod" / "modtls_mbedtls.c"
    changed.write_text(changed.read_text().replace("mbedtls_ssl_set_bio", "mbedtls_ssl_set_wire"))
    with pytest.raises(EnvironmentProblem, match=r"session-resumption\.patch does not fit"):
        apply_patches(["session-resumption"], trees)


def test_patch_of_a_tree_that_the_build_has_not_is_left_out(trees: dict[str, Path]) -> None:
    before = (trees["micropython"] / "extmod" / "modtls_mbedtls.c").read_bytes()
    apply_patches(["session-resumption"], {"mbedtls": trees["mbedtls"]})
    assert (trees["micropython"] / "extmod" / "modtls_mbedtls.c").read_bytes() == before


def test_missing_patch_is_told_with_the_package_that_has_it(
    trees: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentProblem, match="apt install patch"):
        apply_patches(["session-resumption"], trees)


def test_names_are_sorted_and_strangers_are_refused() -> None:
    assert checked(["secure-element", "fast-mbedtls", "fast-mbedtls"]) == (
        "fast-mbedtls",
        "secure-element",
    )
    with pytest.raises(UsageError, match=r"no build option tls14; there are: .*session-resumption"):
        checked(["tls14"])


def test_stock_build_depends_on_none_of_it(tmp_path: Path) -> None:
    assert ingredients((), "make") == ()
    assert variables((), "make", tmp_path) == ()
    assert not list(tmp_path.iterdir())


def test_key_follows_a_patch_and_the_library_only_where_it_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(custom_dir(), tmp_path / "boards" / "custom")
    shutil.copytree(firmware_options.firmware_dir() / "mtls", tmp_path / "firmware" / "mtls")
    monkeypatch.setattr(firmware_options, "boards_dir", lambda: tmp_path / "boards")
    monkeypatch.setattr(firmware_options, "firmware_dir", lambda: tmp_path / "firmware")
    names = ("session-resumption",), ("frozen-mtls",)
    resuming, frozen = (ingredients(name, "make") for name in names)
    module = tmp_path / "firmware" / "mtls" / "url.py"
    module.write_text(module.read_text() + "\n")
    assert ingredients(names[0], "make") == resuming
    assert ingredients(names[1], "make") != frozen
    variables(names[1], "make", tmp_path / "work")
    frozen_mark = (tmp_path / "work" / "firmware" / "mtls" / "frozen.py").read_text()
    assert frozen_mark in ingredients(names[1], "make")
    patch = tmp_path / "boards/custom/patches/micropython/session-resumption.patch"
    patch.write_text("Another reason.\n" + patch.read_text())
    assert ingredients(names[0], "make") != resuming
