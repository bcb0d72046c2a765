# Handfast mTLS for MicroPython: erase what the filesystem has let go of but the flash still holds
# MIT license; Copyright (c) 2026 the Handfast authors
"""littlefs writes every change to a fresh place: a file that was removed or replaced can be read
from the chip until its block is used again. Blocks that the filesystem does not use are erased by
having it use them all, which is as safe from power cuts as any file; from outside nobody can tell a
free block from one in use. Small files live in their folder's own two blocks, a log: these are
erased in turn, whenever the log is full.
"""

import os

from micropython import const

from .errors import FlashFull, StoreDamaged

_FILLER = b"\xff" * 512
_INLINE_BYTES = const(500)  # what littlefs still keeps in the folder's log (512 with 4 KB blocks)
_TURNS = const(24)  # of these fill a log of 4 KB three times; it has to turn over twice
_BIGGEST_FLASH = const(64 << 20)  # nothing larger is a board's: a test runs on the host's disk
_FOLDER = const(0x4000)
# A P-256 key's length and first octets. Made when it is needed: the module as bytecode is on flash
# too, and must not look like a key there.
_KEY_START = bytes((0x00, 0x79, 0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20))
_KEY_BYTES = const(2 + 121)
_ENOENT = const(2)
_ENOSPC = const(28)
_BLOCK_COUNT = const(4)  # ioctl of os.AbstractBlockDev
_BLOCK_SIZE = const(5)
# Where stock firmware has the block device that it mounts.
_DEVICES = const((("rp2", "Flash"), ("flashbdev", "bdev"), ("_sim", "Flash")))


def scrub(store):
    """Erase what `store` replaced or removed; StoreDamaged if a key can be read all the same."""
    store.sweep()
    _turn_over(store.root + "/log.new")
    _overwrite_free(store.root + "/free.new")
    live = [store.identity(name) for name in ("idevid", "a", "b")]
    _require_erased([b"\x00\x79" + one.key_der for one in live if one])


def decommission(store, tombstone):
    """Make the tombstone, erase the store, then the free blocks, and let it go; may be repeated."""
    _mark(tombstone)
    _remove_tree(store.root)
    _overwrite_free(tombstone)
    _require_erased()


def _sync():
    if hasattr(os, "sync"):
        os.sync()


def _mark(path):
    """Make an empty file, in one write: it is there, or it is not."""
    try:
        with open(path, "wb"):
            pass
    except OSError as error:
        if error.errno == _ENOSPC:
            raise FlashFull("no room on flash for %s: remove some files" % path, _ENOSPC)
        raise StoreDamaged("cannot write " + path, error.errno)
    _sync()


def _remove_tree(path):
    """Remove a folder with all that is in it; one that is gone is fine."""
    try:
        for name in os.listdir(path):
            child = path + "/" + name
            if os.stat(child)[0] & _FOLDER:
                _remove_tree(child)
            else:
                os.remove(child)
        os.rmdir(path)
    except OSError as error:
        if error.errno != _ENOENT:
            raise StoreDamaged("cannot remove " + path, error.errno)


def _overwrite_free(path):
    """Have a file at `path` take every free block, which erases them, and let it go again.

    The file stays empty if the power fails. Takes as long as the chip takes to erase them all.
    """
    volume = os.statvfs(path[: path.rfind("/")] or "/")
    left = volume[1] * volume[2]
    if left > _BIGGEST_FLASH:
        left = 0
    try:
        with open(path, "wb") as file:
            while left > 0:
                left -= file.write(_FILLER)
    except OSError as error:
        if error.errno != _ENOSPC:
            raise StoreDamaged("cannot write " + path, error.errno)
    os.remove(path)
    _sync()


def _turn_over(path):
    """Rewrite a small file until both blocks of its folder's log have been erased in between."""
    for _ in range(_TURNS):
        with open(path, "wb") as file:
            file.write(_FILLER[:_INLINE_BYTES])
    os.remove(path)
    _sync()


def _block_device():
    for module, name in _DEVICES:
        try:
            found = getattr(__import__(module), name)
        except (ImportError, AttributeError):
            continue
        return found() if name == "Flash" else found
    return None


def _left_on_flash(spared):
    """Return how many records of a key are readable on the raw flash, but for those of `spared`.

    0 where the block device of this port is not known.
    """
    device = _block_device()
    if device is None:
        return 0
    block = bytearray(device.ioctl(_BLOCK_SIZE, 0))
    found = 0
    for number in range(device.ioctl(_BLOCK_COUNT, 0)):
        device.readblocks(number, block)
        content = bytes(block)
        at = content.find(_KEY_START)
        while at >= 0:
            found += content[at : at + _KEY_BYTES] not in spared
            at = content.find(_KEY_START, at + 1)
    return found


def _require_erased(spared=()):
    left = _left_on_flash(spared)
    if left:
        raise StoreDamaged("%d keys are still readable: erase the whole flash" % left)
