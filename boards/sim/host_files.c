// A board cannot see the host's files; the plain interpreter needs them.
//
// The unix port carries VfsPosix, and Python code could mount it. Whoever asks for that type gets
// this one, which makes instances for the plain interpreter only.
#include "py/mperrno.h"
#include "py/runtime.h"
#include "extmod/vfs_posix.h"
#include "sim.h"

extern const mp_obj_type_t __real_mp_type_vfs_posix;

static mp_obj_t vfs_posix_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    (void)type;
    if (sim_options.board) {
        mp_raise_OSError(MP_EPERM);
    }
    return MP_OBJ_TYPE_GET_SLOT(&__real_mp_type_vfs_posix, make_new)(&__real_mp_type_vfs_posix, n_args, n_kw, args);
}

MP_DEFINE_CONST_OBJ_TYPE(
    __wrap_mp_type_vfs_posix,
    MP_QSTR_VfsPosix,
    MP_TYPE_FLAG_NONE,
    make_new, vfs_posix_make_new
    );
