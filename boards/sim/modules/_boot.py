# Mounts the flash at /, as ports/rp2 does; a blank flash, and a damaged one, is formatted first.
import _sim
import vfs

_flash = _sim.Flash()
try:
    _fs = vfs.VfsLfs2(_flash, progsize=256)
except OSError:
    if not _flash.blank():
        print("_boot: no filesystem found on the flash, formatting it")
    vfs.VfsLfs2.mkfs(_flash, progsize=256)
    _fs = vfs.VfsLfs2(_flash, progsize=256)
vfs.mount(_fs, "/")

del vfs, _sim, _flash, _fs
