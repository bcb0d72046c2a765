# Mount the filesystem as MicroPython's own _boot.py does, then have the network come up
# MIT license; Copyright (c) 2026 the Handfast authors

import rp2
import uplink
import vfs

_flash = rp2.Flash()
try:
    _files = vfs.VfsLfs2(_flash, progsize=256)
except OSError:
    vfs.VfsLfs2.mkfs(_flash, progsize=256)
    _files = vfs.VfsLfs2(_flash, progsize=256)
vfs.mount(_files, "/")

uplink.start()
del _flash, _files, rp2, uplink, vfs
