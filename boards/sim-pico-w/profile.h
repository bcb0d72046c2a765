// Raspberry Pi Pico W, as ports/rp2 builds it.
#define SIM_BOARD_NAME          "Handfast sim-pico-w"
#define SIM_MCU_NAME            "RP2040"
#define SIM_PLATFORM            "rp2"
#define SIM_EPOCH_IS_1970       (1)
#define SIM_TLS_IN_GC_HEAP      (1)
#define SIM_TLS_LIKE_IDF        (0)
#define SIM_HASHLIB_MD5         (0)
#define SIM_CPU_FREQ_HZ         (125000000)
#define SIM_TICKS_CPU_HZ        (1000000) // the microsecond timer stands in for a cycle counter
#define SIM_UNIQUE_ID_BYTES     (8)
#define SIM_CAUSE_OF_RESET      (3) // machine.reset() is a watchdog reset there
