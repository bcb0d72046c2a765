// How a run of the board begins and ends: reset, watchdog, power cut.
//
// RAM outlives a reset of the chip, so a mark in it tells a reset from the power coming on.
#include "py/mpconfig.h"
#include "py/misc.h"
#include "mps2.h"
#include "semihosting.h"
#include "sim.h"

#define WARM            (0x6d70733277617263)
#define WDT_RESET       (3) // as boards/sim/modmachine_sim.h numbers them

static SIM_KEPT_BY_RESET uint64_t warm;
static SIM_KEPT_BY_RESET int cause;

// Whether the power has stayed on since the last run.
bool mps2_power_init(void) {
    bool kept = warm == WARM;
    if (kept) {
        sim_options.cause = cause;
        sim_options.cut_after = sim_flash_cut_after;
    }
    warm = WARM;
    cause = SIM_CAUSE_OF_RESET; // unless it is the watchdog
    return kept;
}

// The watchdog's first timeout, an NMI; at the second it resets the chip.
void mps2_watchdog_barked(void) {
    cause = WDT_RESET;
}

void sim_reset(void) {
    mps2_irq_save();
    mps2_clock_keep();
    SCB_AIRCR = SCB_AIRCR_RESET;
    for (;;) {
    }
}

void mps2_exit(int status) {
    uint32_t block[] = { STOPPED_APPLICATION_EXIT, (uint32_t)status };
    for (;;) {
        semihosting(SYS_EXIT_EXTENDED, block);
    }
}

void mps2_cannot_run(const char *why) {
    semihosting(SYS_WRITE0, "emulated board: ");
    semihosting(SYS_WRITE0, why);
    mps2_exit(SIM_EXIT_CANNOT_RUN);
}

void sim_power_cut(void) {
    sim_uart_drain(); // a board that prints is slower than its UART
    mps2_exit(SIM_EXIT_POWER_CUT);
}

// assert() of the C library, which lwIP uses.
void __assert_func(const char *file, int line, const char *function, const char *expression) {
    (void)file;
    (void)line;
    (void)function;
    mps2_cannot_run(expression);
}
