// The _mps2 module: what a benchmark asks the emulated machine.
#include "py/runtime.h"
#include "mps2.h"

#define NS_PER_TICK (1000000000 / CPU_HZ)

// busy_ns(): the machine's time since the reset, less what it waited. Under `-icount shift=0` each
// instruction takes a nanosecond of that time, so it is the number of instructions, to 40.
static mp_obj_t mps2_busy_ns(void) {
    return mp_obj_new_int_from_ull((mps2_ticks() - mps2_waited_ticks()) * NS_PER_TICK);
}
static MP_DEFINE_CONST_FUN_OBJ_0(mps2_busy_ns_obj, mps2_busy_ns);

static const mp_rom_map_elem_t mps2_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__mps2) },
    { MP_ROM_QSTR(MP_QSTR_busy_ns), MP_ROM_PTR(&mps2_busy_ns_obj) },
};
static MP_DEFINE_CONST_DICT(mps2_globals, mps2_globals_table);

const mp_obj_module_t mp_module_mps2 = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&mps2_globals,
};
MP_REGISTER_MODULE(MP_QSTR__mps2, mp_module_mps2);
