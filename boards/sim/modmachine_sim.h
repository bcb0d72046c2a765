// Included by extmod/modmachine.c: the machine module of a board.
#include "sim.h"

#ifndef SIM_MACHINE_MORE_GLOBALS
#define SIM_MACHINE_MORE_GLOBALS
#endif

extern const mp_obj_type_t sim_rtc_type;

#define MICROPY_PY_MACHINE_EXTRA_GLOBALS \
    { MP_ROM_QSTR(MP_QSTR_RTC), MP_ROM_PTR(&sim_rtc_type) }, \
    { MP_ROM_QSTR(MP_QSTR_PWRON_RESET), MP_ROM_INT(1) }, \
    { MP_ROM_QSTR(MP_QSTR_HARD_RESET), MP_ROM_INT(2) }, \
    { MP_ROM_QSTR(MP_QSTR_WDT_RESET), MP_ROM_INT(3) }, \
    { MP_ROM_QSTR(MP_QSTR_DEEPSLEEP_RESET), MP_ROM_INT(4) }, \
    { MP_ROM_QSTR(MP_QSTR_SOFT_RESET), MP_ROM_INT(5) }, \
    SIM_MACHINE_MORE_GLOBALS

static void mp_machine_idle(void) {
    mp_event_wait_ms(1);
}

__attribute__((noreturn)) static void mp_machine_reset(void) {
    sim_uart_drain();
    sim_reset();
}

static mp_int_t mp_machine_reset_cause(void) {
    return sim_options.cause;
}

static mp_obj_t mp_machine_unique_id(void) {
    byte id[SIM_UNIQUE_ID_BYTES] = { 0 };
    const char *hex = sim_options.unique_id;
    for (size_t i = 0; hex != NULL && i < sizeof(id) && hex[2 * i] && hex[2 * i + 1]; i++) {
        id[i] = (byte)(unichar_xdigit_value((unichar)hex[2 * i]) << 4
            | unichar_xdigit_value((unichar)hex[2 * i + 1]));
    }
    return mp_obj_new_bytes(id, sizeof(id));
}

static mp_obj_t mp_machine_get_freq(void) {
    return MP_OBJ_NEW_SMALL_INT(SIM_CPU_FREQ_HZ);
}

static void mp_machine_set_freq(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    if (mp_obj_get_int(args[0]) != SIM_CPU_FREQ_HZ) {
        mp_raise_ValueError(MP_ERROR_TEXT("a simulated board has one frequency"));
    }
}

static void mp_machine_lightsleep(size_t n_args, const mp_obj_t *args) {
    if (n_args > 0) {
        mp_hal_delay_ms(mp_obj_get_int(args[0]));
    }
}

__attribute__((noreturn)) static void mp_machine_deepsleep(size_t n_args, const mp_obj_t *args) {
    mp_machine_lightsleep(n_args, args);
    mp_machine_reset();
}
