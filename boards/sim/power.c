// How a run of the board ends: reset, power cycle, power cut.
//
// A reset replaces the process by a fresh copy of itself: RAM is lost, whatever state C code had
// too, while the flash, the serial line and, unless the power went, the clock stay.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "py/mpconfig.h"
#include "sim.h"

#define ARGUMENTS_MAX   (32)
#define DESCRIPTORS_MAX (1024)

static char *const *power_on_argv;
static sigset_t buttons;

static __attribute__((noreturn)) void become(char *const argv[]) {
    // A Ctrl-C may be on its way while the process is replaced: the next run begins without a
    // handler, and would die of it. Ignoring outlives execv, and drops what is pending.
    signal(SIM_SIGNAL_INTERRUPT, SIG_IGN);
    execv("/proc/self/exe", argv);
    _exit(SIM_EXIT_CANNOT_RUN);
}

// SIGHUP is the reset button, SIGUSR1 a power cycle. They stay blocked, over a reset too, and are
// taken from a file descriptor by the thread in uart.c: none is lost, and nothing runs in a handler.
void sim_power_init(void) {
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&buttons);
    sigaddset(&buttons, SIGHUP);
    sigaddset(&buttons, SIGUSR1);
    sigprocmask(SIG_SETMASK, &buttons, NULL);
}

int sim_power_buttons(char *const argv[]) {
    power_on_argv = argv;
    return signalfd(-1, &buttons, SFD_CLOEXEC | SFD_NONBLOCK);
}

void sim_power_button(int fd) {
    struct signalfd_siginfo pressed;
    if (read(fd, &pressed, sizeof(pressed)) != sizeof(pressed)) {
        return;
    }
    if (pressed.ssi_signo == SIGHUP) {
        sim_reset();
    }
    sim_close_sockets();
    sigprocmask(SIG_SETMASK, &buttons, NULL);
    become(power_on_argv);
}

// The network stack of a board forgets its connections in any kind of reset.
void sim_close_sockets(void) {
    for (int fd = 3; fd < DESCRIPTORS_MAX; fd++) {
        struct stat status;
        if (fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) {
            close(fd);
        }
    }
}

void sim_reset(void) {
    sim_close_sockets();
    char kept[3][48];
    snprintf(kept[0], sizeof(kept[0]), "--clock-offset-us=%lld", (long long)sim_clock_get_offset_us());
    snprintf(kept[1], sizeof(kept[1]), "--reset-cause=%d", SIM_CAUSE_OF_RESET);
    snprintf(kept[2], sizeof(kept[2]), "--cut-after=%ld", sim_flash_cut_after);
    char *argv[ARGUMENTS_MAX];
    size_t n = 0;
    for (; power_on_argv[n] != NULL && n < ARGUMENTS_MAX - 5; n++) {
        argv[n] = power_on_argv[n];
    }
    argv[n++] = kept[0];
    argv[n++] = kept[1];
    argv[n++] = kept[2];
    if (sim_options.cut_clean) {
        argv[n++] = "--cut-clean";
    }
    argv[n] = NULL;
    sigprocmask(SIG_SETMASK, &buttons, NULL);
    become(argv);
}

// A board that owns its serial line stays, dead, so that the line stays too until the next power
// cycle; a harness that owns the line sees the exit status and starts the board again.
void sim_power_cut(void) {
    sim_uart_drain(); // a board that prints is slower than its UART
    if (!sim_options.uart_is_ours) {
        _exit(SIM_EXIT_POWER_CUT);
    }
    sim_uart_deafen();
    sim_close_sockets();
    for (;;) {
        pause();
    }
}
