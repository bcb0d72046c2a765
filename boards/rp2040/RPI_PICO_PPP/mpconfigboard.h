#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico with PPP"
// As on a Pico W: what it leaves of 2 MB to the firmware is enough for lwIP and mbedTLS.
#define MICROPY_HW_FLASH_STORAGE_BYTES (848 * 1024)

#define MICROPY_PY_NETWORK (1)
#define MICROPY_PY_NETWORK_PPP_LWIP (1)
#define MICROPY_PY_NETWORK_HOSTNAME_DEFAULT "pico"

// lwIP outlives a soft reset, the heap with PPP's control block in it does not: hang up before.
#define MICROPY_BOARD_START_SOFT_RESET() pyexec_frozen_module("uplink_stop.py", false)
