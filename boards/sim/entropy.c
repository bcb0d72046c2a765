// The board's random source: os.urandom(), the seed of `random` and mbedTLS's entropy come from it.
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "py/runtime.h"
#include "sim.h"

#define STUCK_OCTET (0xa5)

const char *const sim_entropy_names[SIM_ENTROPY_SOURCES] = { "host", "stuck", "replayed" };

int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen);
void __wrap_mp_hal_get_random(size_t n, void *buf);

static bool from_host(uint8_t *out, size_t n) {
    while (n > 0) {
        ssize_t got = getrandom(out, n, 0);
        if (got > 0) {
            out += got;
            n -= (size_t)got;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

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

static bool draw(void *out, size_t n) {
    switch (sim_options.entropy) {
        case SIM_ENTROPY_STUCK:
            memset(out, STUCK_OCTET, n);
            return true;
        case SIM_ENTROPY_REPLAYED:
            replay(out, n);
            return true;
        default:
            return from_host(out, n);
    }
}

void __wrap_mp_hal_get_random(size_t n, void *buf) {
    if (!draw(buf, n)) {
        mp_raise_OSError(errno);
    }
}

int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen) {
    (void)data;
    *olen = 0;
    if (!draw(output, len)) {
        return -1;
    }
    *olen = len;
    return 0;
}
