// The host's randomness, and the unix port's way to ask for the board's.
#include <errno.h>
#include <sys/random.h>

#include "py/runtime.h"
#include "sim.h"

void __wrap_mp_hal_get_random(size_t n, void *buf);

bool sim_host_random(uint8_t *out, size_t n) {
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

void __wrap_mp_hal_get_random(size_t n, void *buf) {
    if (!sim_random(buf, n)) {
        mp_raise_OSError(errno);
    }
}
