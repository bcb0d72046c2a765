// Options, and the life of the board between power-on and the next reset.
//
// Options come as one line of name=value, by semihosting: paths have no blanks in them, since the
// bench hands files over as /dev/fd/N.
#include <stdlib.h>
#include <string.h>

#include "py/cstack.h"
#include "py/gc.h"
#include "py/runtime.h"
#include "shared/runtime/gchelper.h"
#include "shared/runtime/softtimer.h"
#include "lwip/init.h"
#include "mps2.h"
#include "semihosting.h"
#include "sim.h"

#define STACK_BYTES     (16 * 1024)
#define LINE_BYTES      (512)
#define MOST_HEAP_KB    (1024)

sim_options_t sim_options = {
    .board = true,
    .heap_kb = 184,
    .entropy = SIM_ENTROPY_HOST,
    .cut_after = -1,
    .cause = SIM_POWER_ON,
};

static uint8_t heap[MOST_HEAP_KB * 1024] __attribute__((section(".noinit"), aligned(16)));

// ---- Options ----

static char line[LINE_BYTES]; // options point into it
static const char *started_path;

static void set_option(const char *name, char *value) {
    if (strcmp(name, "flash") == 0) {
        sim_options.flash_path = value;
    } else if (strcmp(name, "started") == 0) {
        started_path = value;
    } else if (strcmp(name, "heap-kb") == 0) {
        sim_options.heap_kb = atol(value);
    } else if (strcmp(name, "unique-id") == 0) {
        sim_options.unique_id = value;
    } else if (strcmp(name, "rtc") == 0) {
        sim_options.rtc_unix_s = strtoll(value, NULL, 10);
    } else if (strcmp(name, "cut-after") == 0) {
        sim_options.cut_after = atol(value);
    } else if (strcmp(name, "cut-clean") == 0) {
        sim_options.cut_clean = true;
    } else if (strcmp(name, "entropy") == 0) {
        for (sim_entropy_t source = 0; source < SIM_ENTROPY_SOURCES; source++) {
            if (strcmp(value, sim_entropy_names[source]) == 0) {
                sim_options.entropy = source;
            }
        }
    } else {
        mps2_cannot_run("an option is not known\n");
    }
}

static void parse(void) {
    struct { char *line; uint32_t bytes; } block = { line, sizeof(line) };
    if (semihosting(SYS_GET_CMDLINE, &block) != 0) {
        mps2_cannot_run("the options cannot be read\n");
    }
    char *rest = line;
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        char *value = strchr(word, '=');
        if (value != NULL) {
            *value = 0;
            set_option(word, value + 1);
        }
    }
    if (sim_options.flash_path == NULL || sim_options.heap_kb < 16 || sim_options.heap_kb > MOST_HEAP_KB) {
        mps2_cannot_run("flash= is missing, or heap-kb= is not from 16 to 1024\n");
    }
}

// ---- From power-on to reset ----

// Tells the bench, which waits for it, that the board boots.
static void announce(void) {
    int bench = started_path == NULL ? -1 : semihosting_open(started_path, OPEN_WRITE);
    if (bench >= 0) {
        semihosting_transfer(SYS_WRITE, bench, "\n", 1);
        semihosting(SYS_CLOSE, &bench);
    }
}

// The sockets are closed by the sweep before; what is left of a soft reset are the timers.
void sim_close_sockets(void) {
    soft_timer_deinit();
}

int main(void) {
    mp_cstack_init_with_sp_here(STACK_BYTES);
    parse();
    bool kept = mps2_power_init();
    mps2_clock_init(kept);
    mps2_host_random_init();
    sim_flash_init();
    lwip_init();
    mps2_uart_init();
    mps2_interrupts_init();
    if (!kept) {
        announce();
    }
    for (;;) {
        gc_init(heap, heap + sim_options.heap_kb * 1024);
        sim_run_until_soft_reset();
    }
}

void gc_collect(void) {
    gc_collect_start();
    gc_helper_collect_regs_and_stack();
    soft_timer_gc_mark_all();
    gc_collect_end();
}

MP_NORETURN void nlr_jump_fail(void *value) {
    (void)value;
    mps2_cannot_run("an exception that nobody catches\n");
}
