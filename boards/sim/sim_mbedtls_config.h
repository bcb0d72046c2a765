// mbedTLS as the simulated board's firmware has it: MicroPython's common set and the profile's own.
#ifndef SIM_MBEDTLS_CONFIG_H
#define SIM_MBEDTLS_CONFIG_H

#include "profile.h"

// The board's clock: always unix seconds, whatever epoch the board counts from.
#include <time.h>
time_t sim_clock_mbedtls_time(time_t *timer);
#define MBEDTLS_PLATFORM_TIME_MACRO sim_clock_mbedtls_time

#define MBEDTLS_ECP_NIST_OPTIM

#if SIM_TLS_IN_GC_HEAP
// Allocate in MicroPython's heap, and take entropy from the board's own source (entropy.c).
#define MICROPY_MBEDTLS_CONFIG_BARE_METAL (1)
#endif

#if SIM_TLS_LIKE_IDF
// What ESP-IDF's defaults add.
#define MBEDTLS_PEM_PARSE_C
#define MBEDTLS_BASE64_C
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#define MBEDTLS_X509_CRL_PARSE_C
#define MBEDTLS_SSL_ALPN
#if !MICROPY_PY_SSL_ECDSA_SIGN_ALT // extmod/mbedtls/mbedtls_alt.c refuses the two together
#define MBEDTLS_ECDSA_DETERMINISTIC
#endif
#define MBEDTLS_HMAC_DRBG_C
#endif

#include "extmod/mbedtls/mbedtls_config_common.h"

#if HANDFAST_OPTIONS
#include "mbedtls_options.h"
#endif

#if SIM_TLS_LIKE_IDF && !SIM_TLS_IN_GC_HEAP
#define MBEDTLS_ENTROPY_HARDWARE_ALT
#define MBEDTLS_NO_PLATFORM_ENTROPY
#endif

#endif
