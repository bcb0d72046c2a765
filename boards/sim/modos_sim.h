// Included by extmod/modos.c: os.urandom(), and nothing of the host.
#include "py/mphal.h"

static mp_obj_t mp_os_urandom(mp_obj_t count) {
    mp_int_t n = mp_obj_get_int(count);
    vstr_t bytes;
    vstr_init_len(&bytes, n);
    mp_hal_get_random(n, bytes.buf);
    return mp_obj_new_bytes_from_vstr(&bytes);
}
static MP_DEFINE_CONST_FUN_OBJ_1(mp_os_urandom_obj, mp_os_urandom);
