// Time since the reset, by the FPGA's counter, and the clock: unix time, kept over a reset in what
// RAM startup.c leaves alone, to SysTick's period.
#include <time.h>

#include "py/mphal.h"
#include "py/runtime.h"
#include "mbedtls/platform_time.h"
#include "mps2.h"
#include "sim.h"

static SIM_KEPT_BY_RESET int64_t kept_unix_us;
static int64_t offset_us; // of unix time to the time since the reset
static uint32_t counter_before, counter_high;

// Ticks of CPU_HZ since the reset; asked for at least at every SysTick, far within 171 s.
uint64_t mps2_ticks(void) {
    uint32_t state = mps2_irq_save();
    uint32_t counter = FPGAIO_COUNTER;
    counter_high += counter < counter_before;
    counter_before = counter;
    uint64_t ticks = (uint64_t)counter_high << 32 | counter;
    mps2_irq_restore(state);
    return ticks;
}

void mps2_clock_init(bool kept) {
    FPGAIO_PRESCALE = 0;
    sim_clock_set_unix_us(kept ? kept_unix_us : sim_options.rtc_unix_s * 1000000);
}

void mps2_clock_keep(void) {
    kept_unix_us = sim_clock_unix_us();
}

int64_t sim_clock_unix_us(void) {
    return (int64_t)(mps2_ticks() / TICKS_PER_US) + offset_us;
}

void sim_clock_set_unix_us(int64_t unix_us) {
    offset_us = 0;
    offset_us = unix_us - sim_clock_unix_us();
    kept_unix_us = unix_us;
}

mp_uint_t sim_clock_ticks_cpu(void) {
    return FPGAIO_COUNTER;
}

mp_uint_t mp_hal_ticks_cpu(void) {
    return FPGAIO_COUNTER;
}

mp_uint_t mp_hal_ticks_us(void) {
    return mps2_ticks() / TICKS_PER_US;
}

mp_uint_t mp_hal_ticks_ms(void) {
    return mps2_ticks() / TICKS_PER_MS;
}

uint64_t mp_hal_time_ns(void) {
    return (uint64_t)sim_clock_unix_us() * 1000;
}

// lwIP's, in ms.
uint32_t sys_now(void) {
    return mp_hal_ticks_ms();
}

// mbedTLS's: the validity of certificates, and what its timeouts count by.
time_t sim_clock_mbedtls_time(time_t *timer) {
    time_t now = (time_t)(sim_clock_unix_us() / 1000000);
    if (timer != NULL) {
        *timer = now;
    }
    return now;
}

mbedtls_ms_time_t mbedtls_ms_time(void) {
    return mps2_ticks() / TICKS_PER_MS;
}
