// The unix port's configuration, less what makes it a process on a host instead of a board.
#include "mpconfigport.h"

// The board's clock counts from the board's epoch, and is not the host's.
#undef MICROPY_EPOCH_IS_1970
#define MICROPY_EPOCH_IS_1970               (SIM_EPOCH_IS_1970)

#include <stdint.h>
uint64_t sim_clock_time_ns(void);
#define mp_hal_time_ns                      sim_clock_time_ns

// Sleeping costs no CPU, and Ctrl-C ends it.
void sim_delay_ms(mp_uint_t ms);
#define mp_hal_delay_ms                     sim_delay_ms

// There is one way out of a board: its UART.
#undef MICROPY_ERROR_PRINTER
#define MICROPY_ERROR_PRINTER               (&mp_plat_print)

// No paths of the host, no physical memory.
#undef MICROPY_PY_SYS_EXECUTABLE
#define MICROPY_PY_SYS_EXECUTABLE           (0)
#undef MICROPY_PLAT_DEV_MEM

#undef MICROPY_PY_MACHINE_INCLUDEFILE
#define MICROPY_PY_MACHINE_INCLUDEFILE      "modmachine_sim.h"
