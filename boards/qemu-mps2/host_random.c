// The host's randomness, for a machine that has none of its own.
#include "py/mperrno.h"
#include "py/runtime.h"
#include "mps2.h"
#include "semihosting.h"
#include "sim.h"

static int source = -1;

void mps2_host_random_init(void) {
    source = semihosting_open("/dev/urandom", OPEN_READ);
    if (source < 0) {
        mps2_cannot_run("the host has no /dev/urandom\n");
    }
}

bool sim_host_random(uint8_t *out, size_t n) {
    return semihosting_transfer(SYS_READ, source, out, n) == 0;
}

void mp_hal_get_random(unsigned int n, void *buf) {
    if (!sim_random(buf, n)) {
        mp_raise_OSError(MP_EIO);
    }
}

unsigned long mps2_random_seed(void) {
    unsigned long seed = 0;
    sim_random(&seed, sizeof(seed));
    return seed;
}
