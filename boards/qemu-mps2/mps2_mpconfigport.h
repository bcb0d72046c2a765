// The qemu port's configuration, which is one for running MicroPython's tests, and what makes it a
// board: ports/rp2 for the Pico W is the model.
#include "profile.h"
#include "mpconfigport.h"

// The VM, as boards have it.
#define MICROPY_OPT_COMPUTED_GOTO           (1)
#define MICROPY_SCHEDULER_DEPTH             (8)
#define MICROPY_SCHEDULER_STATIC_NODES      (1)
#define MICROPY_TRACKED_ALLOC               (1)
#define MICROPY_EPOCH_IS_1970               (SIM_EPOCH_IS_1970)
#define MICROPY_QSTR_BYTES_IN_HASH          (1)
#define MICROPY_ENABLE_FINALISER            (1)
#undef MICROPY_PY_SYS_STDIO_BUFFER
#define MICROPY_PY_SYS_STDIO_BUFFER         (1) // mpremote mount reads sys.stdin.buffer
#undef MICROPY_VFS_ROM
#define MICROPY_VFS_ROM                     (0)

// Who the board says it is.
#undef MICROPY_HW_BOARD_NAME
#define MICROPY_HW_BOARD_NAME               SIM_BOARD_NAME

#define MICROPY_PY_OS_INCLUDEFILE           "modos_sim.h"
#define MICROPY_PY_OS_UNAME                 (1)
#define MICROPY_PY_OS_URANDOM               (1)
#define MICROPY_PY_RANDOM_SEED_INIT_FUNC    (mps2_random_seed())
#define MICROPY_PY_HASHLIB_MD5              (0)
#define MICROPY_PY_HASHLIB_SHA1             (1)
#define MICROPY_PY_CRYPTOLIB                (1)
#undef MICROPY_PY_SELECT
#define MICROPY_PY_SELECT                   (1)
#undef MICROPY_PY_ASYNCIO
#define MICROPY_PY_ASYNCIO                  (1)
#define MICROPY_PY_WEBSOCKET                (1)

#undef MICROPY_PY_TIME
#define MICROPY_PY_TIME                     (1)
#define MICROPY_PY_TIME_GMTIME_LOCALTIME_MKTIME (1)
#define MICROPY_PY_TIME_TIME_TIME_NS        (1)
#define MICROPY_PY_TIME_INCLUDEFILE         "modtime_sim.h"

// PinBase of the port is for its tests; Pin is in pin.c.
#undef MICROPY_PY_MACHINE_PIN_BASE
#undef MICROPY_PY_MACHINE_INCLUDEFILE
#define MICROPY_PY_MACHINE_INCLUDEFILE      "modmachine_sim.h"
#define MICROPY_PY_MACHINE_BARE_METAL_FUNCS (1)
#define MICROPY_PY_MACHINE_TIMER            (1)
#define MICROPY_PY_MACHINE_WDT              (1)
#define MICROPY_PY_MACHINE_WDT_INCLUDEFILE  "machine_wdt_mps2.h"
#define SIM_MACHINE_MORE_GLOBALS \
    { MP_ROM_QSTR(MP_QSTR_Pin), MP_ROM_PTR(&mps2_pin_type) }, \
    { MP_ROM_QSTR(MP_QSTR_Timer), MP_ROM_PTR(&machine_timer_type) },

#define MICROPY_PY_NETWORK                  (1)
#define MICROPY_PY_NETWORK_HOSTNAME_DEFAULT "qemu-mps2"
#define MPS2_PHY_LAN9118                    (1)
#define MICROPY_PORT_NETWORK_INTERFACES \
    { MP_ROM_QSTR(MP_QSTR_LAN), MP_ROM_PTR(&mps2_lan_type) }, \
    { MP_ROM_QSTR(MP_QSTR_PHY_LAN9118), MP_ROM_INT(MPS2_PHY_LAN9118) },

extern const struct _mp_obj_type_t mps2_pin_type;
extern const struct _mp_obj_type_t mps2_lan_type;

// Interrupts. PendSV, the lowest of them, runs lwIP and the timers: to keep it out is to lock these.
uint32_t mps2_irq_save(void);
void mps2_irq_restore(uint32_t state);
uint32_t mps2_pendsv_lock(void);
void mps2_pendsv_unlock(uint32_t state);
void mps2_wait(int timeout_ms);
#define MICROPY_BEGIN_ATOMIC_SECTION()      mps2_irq_save()
#define MICROPY_END_ATOMIC_SECTION(state)   mps2_irq_restore(state)
#define MICROPY_PY_PENDSV_ENTER             uint32_t pendsv_state = mps2_pendsv_lock();
#define MICROPY_PY_PENDSV_REENTER           pendsv_state = mps2_pendsv_lock();
#define MICROPY_PY_PENDSV_EXIT              mps2_pendsv_unlock(pendsv_state);
#define MICROPY_PY_LWIP_ENTER               MICROPY_PY_PENDSV_ENTER
#define MICROPY_PY_LWIP_REENTER             MICROPY_PY_PENDSV_REENTER
#define MICROPY_PY_LWIP_EXIT                MICROPY_PY_PENDSV_EXIT
#define MICROPY_INTERNAL_WFE(timeout_ms)    mps2_wait(timeout_ms)

unsigned long mps2_random_seed(void);
void mp_hal_get_random(unsigned int n, void *buf);
