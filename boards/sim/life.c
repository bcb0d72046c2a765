// The life of a board between one soft reset and the next.
#include "py/builtin.h"
#include "py/gc.h"
#include "py/runtime.h"
#include "shared/readline/readline.h"
#include "shared/runtime/pyexec.h"
#if MICROPY_PY_NETWORK
#include "extmod/modnetwork.h"
#endif
#include "sim.h"

void sim_run_until_soft_reset(void) {
    mp_init();
    mp_sys_path = mp_obj_new_list(0, NULL);
    mp_obj_list_append(mp_sys_path, MP_OBJ_NEW_QSTR(MP_QSTR_));
    mp_obj_list_append(mp_sys_path, mp_obj_new_str_from_cstr(".frozen"));
    mp_obj_list_append(mp_sys_path, mp_obj_new_str_from_cstr("/lib"));
    mp_obj_list_init(MP_OBJ_TO_PTR(mp_sys_argv), 0);
    readline_init0();
    #if MICROPY_PY_NETWORK
    mod_network_init();
    #endif
    #if MICROPY_PY_SYS_SETTRACE
    sim_lines_start();
    #endif

    pyexec_frozen_module("_boot.py", false);
    int result = pyexec_file_if_exists("boot.py");
    if (!(result & PYEXEC_FORCED_EXIT) && pyexec_mode_kind == PYEXEC_MODE_FRIENDLY_REPL && result != 0) {
        result = pyexec_file_if_exists("main.py");
    }
    while (!(result & PYEXEC_FORCED_EXIT)) {
        result = pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? pyexec_raw_repl() : pyexec_friendly_repl();
    }

    mp_printf(MP_PYTHON_PRINTER, "MPY: soft reboot\n");
    gc_sweep_all();
    mp_deinit();
    sim_close_sockets();
}
