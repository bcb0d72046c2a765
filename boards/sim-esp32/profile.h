// ESP32, as ports/esp32 builds it.
#define SIM_BOARD_NAME          "Handfast sim-esp32"
#define SIM_MCU_NAME            "ESP32"
#define SIM_PLATFORM            "esp32"
#define SIM_EPOCH_IS_1970       (0)
#define SIM_TLS_IN_GC_HEAP      (0)
#define SIM_TLS_LIKE_IDF        (1)
#define SIM_HASHLIB_MD5         (1)
#define SIM_CPU_FREQ_HZ         (160000000)
#define SIM_TICKS_CPU_HZ        (SIM_CPU_FREQ_HZ)
#define SIM_UNIQUE_ID_BYTES     (6)
#define SIM_CAUSE_OF_RESET      (2) // machine.HARD_RESET
