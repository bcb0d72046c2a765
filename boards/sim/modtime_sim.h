// Included by extmod/modtime.c: what a port has to tell it.
#include <time.h>

#include "shared/timeutils/timeutils.h"

// The unix port's is always 0: a board's counter is what firmware takes timing jitter from.
#undef mp_hal_ticks_cpu
#define mp_hal_ticks_cpu sim_clock_ticks_cpu
mp_uint_t sim_clock_ticks_cpu(void);

static time_t sim_time_since_epoch(void) {
    return (time_t)(mp_hal_time_ns() / 1000000000);
}

static mp_obj_t mp_time_localtime_get(void) {
    timeutils_struct_time_t tm;
    timeutils_seconds_since_epoch_to_struct_time(sim_time_since_epoch(), &tm);
    mp_obj_t tuple[8] = {
        mp_obj_new_int(tm.tm_year),
        mp_obj_new_int(tm.tm_mon),
        mp_obj_new_int(tm.tm_mday),
        mp_obj_new_int(tm.tm_hour),
        mp_obj_new_int(tm.tm_min),
        mp_obj_new_int(tm.tm_sec),
        mp_obj_new_int(tm.tm_wday),
        mp_obj_new_int(tm.tm_yday),
    };
    return mp_obj_new_tuple(8, tuple);
}

// Whole seconds, as on boards: their single-precision float has no room for more.
static mp_obj_t mp_time_time_get(void) {
    return mp_obj_new_int_from_ull(sim_time_since_epoch());
}
