// Where the board's mbedTLS gets its entropy.
#include <errno.h>
#include <sys/random.h>

#include "py/mpconfig.h"

int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen);

int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *olen) {
    (void)data;
    *olen = 0;
    while (*olen < len) {
        ssize_t n = getrandom(output + *olen, len - *olen, 0);
        if (n > 0) {
            *olen += (size_t)n;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}
