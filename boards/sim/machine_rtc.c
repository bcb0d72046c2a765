// machine.RTC: reads and sets the board's clock.
#include "py/runtime.h"
#include "shared/timeutils/timeutils.h"
#include "sim.h"

static const mp_obj_base_t rtc_obj;

static mp_obj_t rtc_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    (void)type;
    (void)args;
    mp_arg_check_num(n_args, n_kw, 0, 1, false); // ports differ in whether they take an id
    return MP_OBJ_FROM_PTR(&rtc_obj);
}

static mp_obj_t rtc_get(void) {
    int64_t us = sim_clock_unix_us();
    timeutils_struct_time_t tm;
    timeutils_seconds_since_2000_to_struct_time(us / 1000000 - TIMEUTILS_SECONDS_1970_TO_2000, &tm);
    mp_obj_t tuple[8] = {
        mp_obj_new_int(tm.tm_year),
        mp_obj_new_int(tm.tm_mon),
        mp_obj_new_int(tm.tm_mday),
        mp_obj_new_int(tm.tm_wday),
        mp_obj_new_int(tm.tm_hour),
        mp_obj_new_int(tm.tm_min),
        mp_obj_new_int(tm.tm_sec),
        #if SIM_EPOCH_IS_1970
        mp_obj_new_int(0), // rp2 has no parts of a second
        #else
        mp_obj_new_int(us % 1000000),
        #endif
    };
    return mp_obj_new_tuple(8, tuple);
}

// datetime() -> (year, month, day, weekday, hours, minutes, seconds, subseconds); datetime(tuple) sets.
static mp_obj_t rtc_datetime(size_t n_args, const mp_obj_t *args) {
    if (n_args == 1) {
        return rtc_get();
    }
    mp_obj_t *items;
    mp_obj_get_array_fixed_n(args[1], 8, &items);
    int64_t unix_s = (int64_t)timeutils_seconds_since_2000(
        mp_obj_get_int(items[0]), mp_obj_get_int(items[1]), mp_obj_get_int(items[2]),
        mp_obj_get_int(items[4]), mp_obj_get_int(items[5]), mp_obj_get_int(items[6])
        ) + TIMEUTILS_SECONDS_1970_TO_2000;
    sim_clock_set_unix_us(unix_s * 1000000);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(rtc_datetime_obj, 1, 2, rtc_datetime);

static const mp_rom_map_elem_t rtc_locals_table[] = {
    { MP_ROM_QSTR(MP_QSTR_datetime), MP_ROM_PTR(&rtc_datetime_obj) },
};
static MP_DEFINE_CONST_DICT(rtc_locals, rtc_locals_table);

MP_DEFINE_CONST_OBJ_TYPE(
    sim_rtc_type,
    MP_QSTR_RTC,
    MP_TYPE_FLAG_NONE,
    make_new, rtc_make_new,
    locals_dict, &rtc_locals
    );

static const mp_obj_base_t rtc_obj = { &sim_rtc_type };
