// What the board is, for the sources that it shares with the simulated ones (boards/sim).
#define SIM_BOARD_NAME          "Handfast qemu-mps2"
#define SIM_EPOCH_IS_1970       (1)
#define SIM_TLS_IN_GC_HEAP      (1)
#define SIM_TLS_LIKE_IDF        (0)
#define SIM_CPU_FREQ_HZ         (25000000)
#define SIM_UNIQUE_ID_BYTES     (8)
#define SIM_CAUSE_OF_RESET      (2)

// What startup.c leaves alone: a reset of the chip does not clear its RAM.
#define SIM_KEPT_BY_RESET       __attribute__((section(".noinit")))

// mbedTLS asks for milliseconds too, and has no default on bare metal.
#define MBEDTLS_PLATFORM_MS_TIME_ALT
