// Included by extmod/machine_wdt.c: the CMSDK's watchdog, which nothing stops once it runs.
#include "mps2.h"

#define WATCHDOG_UNLOCK     (0x1ACCE551)
#define WATCHDOG_RUNS       (3) // counts, and resets at the second timeout
#define LONGEST_TIMEOUT_MS  (300000) // twice half of it is within 32 bits of ticks

typedef struct _machine_wdt_obj_t {
    mp_obj_base_t base;
} machine_wdt_obj_t;

static machine_wdt_obj_t watchdog = { { &machine_wdt_type } };

static machine_wdt_obj_t *mp_machine_wdt_make_new_instance(mp_int_t id, mp_int_t timeout_ms) {
    if (id != 0) {
        mp_raise_ValueError(MP_ERROR_TEXT("there is one watchdog, WDT(0)"));
    }
    if (timeout_ms < 2 || timeout_ms > LONGEST_TIMEOUT_MS) {
        mp_raise_ValueError(MP_ERROR_TEXT("timeout must be 2 to 300000 ms"));
    }
    WATCHDOG->lock = WATCHDOG_UNLOCK;
    WATCHDOG->load = (uint32_t)timeout_ms / 2 * TICKS_PER_MS;
    WATCHDOG->control = WATCHDOG_RUNS;
    return &watchdog;
}

static void mp_machine_wdt_feed(machine_wdt_obj_t *self) {
    (void)self;
    WATCHDOG->clear = 1; // any value: it counts from the beginning again
}
