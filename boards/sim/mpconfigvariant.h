// What the simulated board's MicroPython contains: ports/rp2 and ports/esp32 are the models.
#include "profile.h"

#define MICROPY_CONFIG_ROM_LEVEL            (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)

// The VM, as boards have it.
#define MICROPY_FLOAT_IMPL                  (MICROPY_FLOAT_IMPL_FLOAT)
#define MICROPY_LONGINT_IMPL                (MICROPY_LONGINT_IMPL_MPZ)
#define MICROPY_ERROR_REPORTING             (MICROPY_ERROR_REPORTING_NORMAL)
#define MICROPY_ENABLE_EMERGENCY_EXCEPTION_BUF (1)
#define MICROPY_OPT_COMPUTED_GOTO           (1)
// Bytecode may lack its lines: a board that is traced says that it loads none, and gets the source.
#define MICROPY_PERSISTENT_CODE_LOAD        (!MICROPY_PY_SYS_SETTRACE)
#define MICROPY_SCHEDULER_DEPTH             (8)
#define MICROPY_TRACKED_ALLOC               (SIM_TLS_IN_GC_HEAP)
#define MICROPY_ASYNC_KBD_INTR              (0) // uart.c schedules it, as an interrupt handler does
#define MICROPY_REPL_INFO                   (0)
#define MICROPY_USE_INTERNAL_PRINTF         (0) // the C library's, for what is not the board's to print
#define MICROPY_DEBUG_PRINTERS              (1) // ports/unix/main.c needs it
#define MICROPY_USE_READLINE_HISTORY        (1)

// Who the board says it is.
#define MICROPY_HW_BOARD_NAME               SIM_BOARD_NAME
#define MICROPY_HW_MCU_NAME                 "simulated " SIM_MCU_NAME
#define MICROPY_PY_SYS_PLATFORM             SIM_PLATFORM

#define MICROPY_PY_OS_INCLUDEFILE           "modos_sim.h"
#define MICROPY_PY_OS_UNAME                 (1)
#define MICROPY_PY_OS_URANDOM               (1)
#define MICROPY_PY_RANDOM_SEED_INIT_FUNC    (mp_random_seed_init())
#define MICROPY_PY_HASHLIB_MD5              (SIM_HASHLIB_MD5)
#define MICROPY_PY_HASHLIB_SHA1             (1)
#define MICROPY_PY_CRYPTOLIB                (1)
#define MICROPY_PY_SELECT_POSIX_OPTIMISATIONS (1)
#define MICROPY_PY_SELECT_SELECT            (0)
#define MICROPY_PY_WEBSOCKET                (1)

#define MICROPY_PY_TIME                     (1)
#define MICROPY_PY_TIME_GMTIME_LOCALTIME_MKTIME (1)
#define MICROPY_PY_TIME_TIME_TIME_NS        (1)
#define MICROPY_PY_TIME_INCLUDEFILE         "modtime_sim.h"

#define MICROPY_PY_MACHINE                  (1)
#define MICROPY_PY_MACHINE_RESET            (1)
#define MICROPY_PY_MACHINE_BARE_METAL_FUNCS (1)
#define MICROPY_PY_MACHINE_MEMX             (0) // there is no memory map to look at
#define MICROPY_PY_MACHINE_SIGNAL           (0)
