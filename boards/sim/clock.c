// The board's clock: set by nobody but the board, and shared with mbedTLS.
//
// It is kept as an offset to a host clock that only ever counts up, so that a change of the
// host's time of day does not reach the board.
#include <time.h>

#include "py/mphal.h"
#include "py/runtime.h"
#include "shared/timeutils/timeutils.h"
#include "sim.h"

static int64_t offset_us;
static int64_t started_ns;

static int64_t ns_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t us_of(clockid_t clock) {
    return ns_of(clock) / 1000;
}

int64_t sim_clock_get_offset_us(void) {
    return offset_us;
}

void sim_clock_set_offset_us(int64_t offset) {
    offset_us = offset;
}

int64_t sim_clock_unix_us(void) {
    return us_of(CLOCK_BOOTTIME) + offset_us;
}

void sim_clock_set_unix_us(int64_t unix_us) {
    offset_us = unix_us - us_of(CLOCK_BOOTTIME);
}

void sim_clock_follow_host(void) {
    sim_clock_set_unix_us(us_of(CLOCK_REALTIME));
}

// time.ticks_cpu(): a counter that begins at 0 with each run of the board, as fast as the board's.
void sim_clock_start_counter(void) {
    started_ns = ns_of(CLOCK_MONOTONIC);
}

mp_uint_t sim_clock_ticks_cpu(void) {
    int64_t per_us = SIM_TICKS_CPU_HZ / 1000000;
    return (mp_uint_t)((ns_of(CLOCK_MONOTONIC) - started_ns) * per_us / 1000);
}

// time.time_ns() and the modification times of files: nanoseconds since the board's epoch.
uint64_t sim_clock_time_ns(void) {
    int64_t us = sim_clock_unix_us();
    #if !MICROPY_EPOCH_IS_1970
    us -= TIMEUTILS_SECONDS_1970_TO_2000 * 1000000;
    #endif
    return (uint64_t)us * 1000;
}

// mbedTLS checks validity in unix time, as ports/rp2 and ports/esp32 have it.
time_t sim_clock_mbedtls_time(time_t *timer) {
    time_t now = (time_t)(sim_clock_unix_us() / 1000000);
    if (timer != NULL) {
        *timer = now;
    }
    return now;
}

void sim_delay_ms(mp_uint_t ms) {
    int64_t end = us_of(CLOCK_MONOTONIC) + (int64_t)ms * 1000;
    for (;;) {
        mp_handle_pending(true);
        int64_t left = end - us_of(CLOCK_MONOTONIC);
        if (left <= 0) {
            return;
        }
        struct timespec wait = { left / 1000000, left % 1000000 * 1000 };
        nanosleep(&wait, NULL); // a signal ends it early: see uart.c
    }
}
