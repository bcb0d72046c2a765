// Options, and the life of a board between power-on and the next reset.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "py/cstack.h"
#include "py/gc.h"
#include "py/mphal.h"
#include "py/runtime.h"
#include "shared/timeutils/timeutils.h"
#include "sim.h"

#define STACK_BYTES (32 * 1024) // half of that is a board's, whose pointers are half as long

sim_options_t sim_options = {
    .flash_path = "flash.bin",
    .flash_kb = 1024,
    .heap_kb = 192,
    .entropy = SIM_ENTROPY_HOST,
    .uart_fd = -1,
    .lifeline_fd = -1,
    .cut_after = -1,
    .rtc_unix_s = SIM_EPOCH_IS_1970 ? 0 : TIMEUTILS_SECONDS_1970_TO_2000,
    .cause = SIM_POWER_ON,
};

// ---- Options ----

static const char usage[] =
    "usage: micropython --board [options]     run as a simulated board\n"
    "       micropython [file.py ...]         run as a plain interpreter (-h for its options)\n"
    "\n"
    "  --flash FILE         the flash chip; made if it is not there (flash.bin)\n"
    "  --flash-kb N         its size when it is made (1024)\n"
    "  --heap-kb N          size of MicroPython's heap (192)\n"
    "  --uart-fd N          master end of the PTY to talk on; without, one is made\n"
    "  --lifeline-fd N      exit at end-of-file here\n"
    "  --unique-id HEX      what machine.unique_id() gives\n"
    "  --entropy SOURCE     host, stuck (one octet) or replayed (the same octets each time) (host)\n"
    "  --rtc UNIX           what the clock shows at power-on (the board's epoch)\n"
    "  --cut-after N        cut the power in the middle of flash operation N + 1\n"
    "  --cut-clean          cut it just before that operation instead\n"
    "  --step-fd N          before each flash operation, and in the middle of it, write an octet to\n"
    "                       this socket and wait for one\n"
    "\n"
    "The path of the PTY is printed when the board runs. SIGHUP is its reset button, SIGUSR1 a\n"
    "power cycle.\n";

enum { FLASH = 1000, FLASH_KB, HEAP_KB, UART_FD, LIFELINE_FD, UNIQUE_ID, ENTROPY, RTC,
    CUT_AFTER, CUT_CLEAN, STEP_FD, ANNOUNCED, UART_IS_OURS, CLOCK_OFFSET_US, RESET_CAUSE };

static const struct option long_options[] = {
    { "board", no_argument, NULL, 0 },
    { "flash", required_argument, NULL, FLASH },
    { "flash-kb", required_argument, NULL, FLASH_KB },
    { "heap-kb", required_argument, NULL, HEAP_KB },
    { "uart-fd", required_argument, NULL, UART_FD },
    { "lifeline-fd", required_argument, NULL, LIFELINE_FD },
    { "unique-id", required_argument, NULL, UNIQUE_ID },
    { "entropy", required_argument, NULL, ENTROPY },
    { "rtc", required_argument, NULL, RTC },
    { "cut-after", required_argument, NULL, CUT_AFTER },
    { "cut-clean", no_argument, NULL, CUT_CLEAN },
    { "step-fd", required_argument, NULL, STEP_FD },
    // Given by one run of the board to the next, see power.c.
    { "announced", no_argument, NULL, ANNOUNCED },
    { "uart-is-ours", no_argument, NULL, UART_IS_OURS },
    { "clock-offset-us", required_argument, NULL, CLOCK_OFFSET_US },
    { "reset-cause", required_argument, NULL, RESET_CAUSE },
    { NULL, 0, NULL, 0 },
};

static __attribute__((noreturn)) void bad_option(void) {
    fputs(usage, stderr);
    exit(SIM_EXIT_CANNOT_RUN);
}

static long long number(const char *text) {
    char *end;
    long long value = strtoll(text, &end, 0);
    if (end == text || *end != 0) {
        bad_option();
    }
    return value;
}

static sim_entropy_t entropy_source(const char *name) {
    for (sim_entropy_t source = 0; source < SIM_ENTROPY_SOURCES; source++) {
        if (strcmp(name, sim_entropy_names[source]) == 0) {
            return source;
        }
    }
    bad_option();
}

static void set_option(int option, const char *value) {
    switch (option) {
        case 0: break;
        case FLASH: sim_options.flash_path = value; break;
        case FLASH_KB: sim_options.flash_kb = (long)number(value); break;
        case HEAP_KB: sim_options.heap_kb = (long)number(value); break;
        case UART_FD: sim_options.uart_fd = (int)number(value); break;
        case LIFELINE_FD: sim_options.lifeline_fd = (int)number(value); break;
        case UNIQUE_ID: sim_options.unique_id = value; break;
        case ENTROPY: sim_options.entropy = entropy_source(value); break;
        case RTC: sim_options.rtc_unix_s = number(value); break;
        case CUT_AFTER: sim_options.cut_after = (long)number(value); break;
        case CUT_CLEAN: sim_options.cut_clean = true; break;
        case STEP_FD: sim_options.step_fd = (int)number(value); break;
        case ANNOUNCED: sim_options.announced = true; break;
        case UART_IS_OURS: sim_options.uart_is_ours = true; break;
        case CLOCK_OFFSET_US: sim_options.clock_offset_us = number(value); break;
        case RESET_CAUSE: sim_options.cause = (int)number(value); break;
        default: bad_option();
    }
}

static void parse(int argc, char **argv) {
    sim_options.board = true;
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        set_option(option, optarg);
    }
    if (optind != argc || sim_options.heap_kb < 16 || sim_options.flash_kb < 8) {
        bad_option();
    }
}

// ---- The next power-on ----

#define NEXT_ARGUMENTS (24)

// The arguments with which the power comes back: this run's, on the same serial line, without
// what holds for one run only.
static char *const *power_on_arguments(void) {
    static char *argv[NEXT_ARGUMENTS];
    static char numbers[5][24];
    size_t n = 0, k = 0;
    #define PASS(name, format, value) \
    snprintf(numbers[k], sizeof(numbers[k]), format, value); \
    argv[n++] = name; \
    argv[n++] = numbers[k++];
    argv[n++] = "micropython";
    argv[n++] = "--board";
    argv[n++] = "--announced";
    argv[n++] = "--flash";
    argv[n++] = (char *)sim_options.flash_path;
    argv[n++] = "--entropy";
    argv[n++] = (char *)sim_entropy_names[sim_options.entropy];
    PASS("--flash-kb", "%ld", sim_options.flash_kb)
    PASS("--heap-kb", "%ld", sim_options.heap_kb)
    PASS("--uart-fd", "%d", sim_options.uart_fd)
    PASS("--lifeline-fd", "%d", sim_options.lifeline_fd)
    PASS("--rtc", "%lld", (long long)sim_options.rtc_unix_s)
    if (sim_options.unique_id != NULL) {
        argv[n++] = "--unique-id";
        argv[n++] = (char *)sim_options.unique_id;
    }
    if (sim_options.uart_is_ours) {
        argv[n++] = "--uart-is-ours";
    }
    argv[n] = NULL;
    return argv;
}

// ---- From power-on to reset ----

static void power_on(void) {
    sim_clock_start_counter();
    sim_power_init(); // before anyone is told that the board runs, and presses a button
    if (sim_options.cause == SIM_POWER_ON) {
        sim_clock_set_unix_us(sim_options.rtc_unix_s * 1000000);
    } else {
        sim_clock_set_offset_us(sim_options.clock_offset_us);
    }
    sim_flash_init();
    sim_uart_open();
    sim_uart_start(sim_power_buttons(power_on_arguments()));
}

static MP_NOINLINE __attribute__((noreturn)) void run_board(void) {
    size_t heap_bytes = (size_t)sim_options.heap_kb * 1024;
    char *heap = malloc(heap_bytes);
    if (heap == NULL) {
        perror("simulated board: heap");
        exit(SIM_EXIT_CANNOT_RUN);
    }
    for (;;) {
        gc_init(heap, heap + heap_bytes);
        sim_run_until_soft_reset();
    }
}

int __real_main(int argc, char **argv);

int __wrap_main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--board") != 0) {
        sim_clock_follow_host();
        return __real_main(argc, argv);
    }
    parse(argc, argv);
    mp_cstack_init_with_sp_here(STACK_BYTES);
    power_on();
    run_board();
}
