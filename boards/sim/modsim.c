// The _sim module: what a test may do to a simulated board from inside.
#include "py/runtime.h"
#include "sim.h"

extern const mp_obj_type_t sim_flash_type;

// cut_after(n): n more flash operations are done, the next is cut in half. -1: none.
static mp_obj_t sim_cut_after(mp_obj_t n) {
    sim_flash_cut_after = mp_obj_get_int(n);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(sim_cut_after_obj, sim_cut_after);

// flash_ops(): operations (a sector erased, a range programmed) since the last reset.
static mp_obj_t sim_flash_ops(void) {
    return mp_obj_new_int(sim_flash_operations);
}
static MP_DEFINE_CONST_FUN_OBJ_0(sim_flash_ops_obj, sim_flash_ops);

// flash_erasures(): those of them that erased a sector.
static mp_obj_t sim_count_erasures(void) {
    return mp_obj_new_int(sim_flash_erasures);
}
static MP_DEFINE_CONST_FUN_OBJ_0(sim_count_erasures_obj, sim_count_erasures);

static const mp_rom_map_elem_t sim_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__sim) },
    { MP_ROM_QSTR(MP_QSTR_Flash), MP_ROM_PTR(&sim_flash_type) },
    { MP_ROM_QSTR(MP_QSTR_cut_after), MP_ROM_PTR(&sim_cut_after_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_ops), MP_ROM_PTR(&sim_flash_ops_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_erasures), MP_ROM_PTR(&sim_count_erasures_obj) },
};
static MP_DEFINE_CONST_DICT(sim_globals, sim_globals_table);

const mp_obj_module_t mp_module_sim = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&sim_globals,
};
MP_REGISTER_MODULE(MP_QSTR__sim, mp_module_sim);
