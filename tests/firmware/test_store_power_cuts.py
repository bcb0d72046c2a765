"""The power fails at every flash operation of a renewal's writes: the board keeps an identity."""

import ast
import shutil
from pathlib import Path

import pytest
from cut_power import boot, library

from handfast.boards.serial_link import SerialLink

_RENEW_AT, _LOOK_AT = 1_000_000_000, 2_000_000_000  # the clock says what a boot is for

_MAIN = """
import time
from mtls.store import Store
store = Store()
if time.gmtime()[0] < 2030:
    store.write_identity("b", b"new key")
    store.write_identity("b", b"new key", b"new leaf" * 60)
    store.set_current("b")
else:
    def show(name):
        identity = store.identity(name)
        return identity and (identity.key_der, identity.cert_der)
    store.sweep()
    import os
    left = [name for name in os.listdir("/mtls") if name.endswith(".new")]
    print(repr((store.current(), show("a"), show("b"), left)))
print("DONE")
"""

_PREPARE = """
import mtls.store as m
s = m.Store()
s.write_identity("a", b"old key", b"old leaf" * 60)
s.write_identity("b", b"older key", b"older leaf" * 60)
s.set_current("a")
"""

OLD = (b"old key", b"old leaf" * 60)
STEPS = [
    ("a", (b"older key", b"older leaf" * 60)),
    ("a", (b"new key", b"")),
    ("a", (b"new key", b"new leaf" * 60)),
    ("b", (b"new key", b"new leaf" * 60)),
]


@pytest.fixture
def prepared(board, tmp_path) -> Path:
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.exec("import os\nos.mkdir('/mtls')")
        link.push(library("__init__", "custody", "errors", "identity", "store"))
        link.soft_reset()
        link.exec(_PREPARE)
        link.push({"/main.py": _MAIN.encode()})
    board.power_off()
    return Path(shutil.copy(board.flash_image, tmp_path / "prepared.img"))


def test_a_renewal_cut_anywhere_leaves_the_old_identity_or_the_new_one(board, prepared):
    seen = []
    for operation in range(200):
        shutil.copy(prepared, board.flash_image)
        finished = boot(board, _RENEW_AT, cut_after=operation) is not None
        shown = boot(board, _LOOK_AT)
        current, a, b, left = ast.literal_eval(
            next(line for line in shown.splitlines() if line.startswith("("))
        )
        assert a == OLD, f"cut at operation {operation}"
        assert (current, b) in STEPS, f"cut at operation {operation}"
        assert left == []
        seen.append(STEPS.index((current, b)))
        if finished:
            break
    assert seen == sorted(seen), "a later cut must not leave an earlier state"
    assert seen[-1] == len(STEPS) - 1
    assert set(seen) == set(range(len(STEPS))), "each state of the renewal was cut at"


def test_a_renewal_takes_few_flash_operations(board, prepared):
    shutil.copy(prepared, board.flash_image)
    board.power_on(rtc=_LOOK_AT)
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset()
        counted = link.exec(
            "import _sim\nfrom mtls.store import Store\ns = Store()\nn = _sim.flash_ops()\n"
            's.write_identity("b", b"k" * 121)\ns.write_identity("b", b"k" * 121, b"c" * 440)\n'
            's.set_current("b")\nprint(_sim.flash_ops() - n)'
        )
    assert 0 < int(counted) <= 32
