// The board's random source: os.urandom(), the seed of `random` and mbedTLS's entropy come from it.
#include <string.h>

#include "py/runtime.h"
#include "sim.h"

#define STUCK_OCTET (0xa5)

const char *const sim_entropy_names[SIM_ENTROPY_SOURCES] = { "host", "stuck", "replayed" };

int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen);

// SplitMix64's output, octet by octet: however the draws are sized, the stream is one and the same.
static void replay(uint8_t *out, size_t n) {
    static uint64_t given;
    for (; n > 0; n--, given++) {
        uint64_t mixed = (given / 8 + 1) * 0x9e3779b97f4a7c15;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
        mixed ^= mixed >> 31;
        *out++ = (uint8_t)(mixed >> (given % 8 * 8));
    }
}

bool sim_random(void *out, size_t n) {
    switch (sim_options.entropy) {
        case SIM_ENTROPY_STUCK:
            memset(out, STUCK_OCTET, n);
            return true;
        case SIM_ENTROPY_REPLAYED:
            replay(out, n);
            return true;
        default:
            return sim_host_random(out, n);
    }
}

int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen) {
    (void)data;
    *olen = 0;
    if (!sim_random(output, len)) {
        return -1;
    }
    *olen = len;
    return 0;
}
