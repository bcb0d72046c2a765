// The serial line: a PTY, and a thread that does what a UART's interrupt handler does.
//
// The thread carries bytes between the PTY's master end and two pipes, which are the process's
// standard input and output, and watches what comes in for the interrupt character. When it is
// seen, the main thread gets a signal, whose handler raises KeyboardInterrupt the way MicroPython
// wants it from an interrupt handler, and which ends any system call that blocks.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "py/mphal.h"
#include "py/runtime.h"
#include "sim.h"

#define INTERRUPT_RETRY_MS  (10)
#define STALL_CHECK_MS      (100)
// A reader that takes nothing for this long is no reader: the board stops waiting for it.
#define STALL_MAX_MS        (2000)
#define DRAIN_MAX_MS        (500)

static int line;                    // the PTY's master end
static int rx_pipe_in;              // what came in, on its way to standard input
static int tx_pipe_out;             // what standard output was given, on its way out
static int buttons_fd;              // see power.c
static pthread_t main_thread;
static atomic_int interrupt_char = -1;
static atomic_bool interrupt_wanted;
static atomic_bool tx_busy;         // the thread holds bytes that are in neither pipe nor PTY
static atomic_bool deaf;            // the board's power is off

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// ---- Interrupts ----

// Runs on the main thread, and so between two of its steps, as an interrupt handler does. Whether
// there is still a program to interrupt is asked here: it may have ended since the thread saw the
// character, and the REPL, which waits for the next line, has no place to raise anything in.
static void on_interrupt(int signal) {
    (void)signal;
    if (atomic_exchange(&interrupt_wanted, false) && atomic_load(&interrupt_char) >= 0) {
        mp_sched_keyboard_interrupt();
    }
}

// Raised, but the main thread has not come round to it: it may just be entering a system call.
static bool interrupt_pending(void) {
    return atomic_load(&interrupt_wanted) || MP_STATE_MAIN_THREAD(mp_pending_exception) != MP_OBJ_NULL;
}

// ---- The thread ----

static void receive(void) {
    unsigned char bytes[512];
    ssize_t n = read(line, bytes, sizeof(bytes));
    size_t kept = 0;
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] == atomic_load(&interrupt_char)) {
            atomic_store(&interrupt_wanted, true);
            pthread_kill(main_thread, SIM_SIGNAL_INTERRUPT);
        } else {
            bytes[kept++] = bytes[i];
        }
    }
    if (kept > 0 && !atomic_load(&deaf) && write(rx_pipe_in, bytes, kept) < 0) {
        return; // nobody reads and the pipe is full: an overrun, the bytes are lost
    }
}

typedef struct {
    unsigned char bytes[4096];
    size_t length;
    long stalled_since_ms;          // 0: not stalled
    bool unheard;                   // given up on the reader, until it reads again
} tx_t;

static void send_or_drop(tx_t *tx) {
    ssize_t n = write(line, tx->bytes, tx->length);
    if (n > 0) {
        tx->length -= (size_t)n;
        memmove(tx->bytes, tx->bytes + n, tx->length);
        tx->stalled_since_ms = 0;
        tx->unheard = false;
    } else if (tx->stalled_since_ms == 0) {
        tx->stalled_since_ms = now_ms();
    } else if (now_ms() - tx->stalled_since_ms > STALL_MAX_MS) {
        tx->unheard = true;
    }
    if (tx->unheard) {
        tx->length = 0;
    }
    if (tx->length == 0) {
        atomic_store(&tx_busy, false);
    }
}

static void *uart_thread(void *unused) {
    (void)unused;
    static tx_t tx;
    enum { LINE, OUTPUT, LIFELINE, BUTTONS };
    for (;;) {
        struct pollfd fds[] = {
            [LINE] = { line, POLLIN | (tx.length > 0 ? POLLOUT : 0), 0 },
            [OUTPUT] = { tx.length > 0 ? -1 : tx_pipe_out, POLLIN, 0 },
            [LIFELINE] = { sim_options.lifeline_fd, POLLIN, 0 },
            [BUTTONS] = { buttons_fd, POLLIN, 0 },
        };
        bool pending = interrupt_pending();
        int timeout_ms = pending ? INTERRUPT_RETRY_MS : tx.length > 0 ? STALL_CHECK_MS : -1;
        poll(fds, MP_ARRAY_SIZE(fds), timeout_ms);
        if (fds[LIFELINE].revents != 0) {
            _exit(0);
        }
        if (fds[BUTTONS].revents & POLLIN) {
            sim_power_button(buttons_fd);
        }
        if (pending && interrupt_pending()) {
            pthread_kill(main_thread, SIM_SIGNAL_INTERRUPT);
        }
        if (fds[LINE].revents & POLLIN) {
            receive();
        }
        if (fds[OUTPUT].revents & POLLIN) {
            atomic_store(&tx_busy, true);
            ssize_t n = read(tx_pipe_out, tx.bytes, sizeof(tx.bytes));
            tx.length = n > 0 ? (size_t)n : 0;
        }
        if (tx.length > 0) {
            send_or_drop(&tx);
        } else {
            atomic_store(&tx_busy, false);
        }
        if (fds[LINE].revents & (POLLHUP | POLLERR)) {
            usleep(STALL_CHECK_MS * 1000); // someone revoked the PTY; do not spin on it
        }
    }
    return NULL;
}

// ---- Setting up ----

static void cannot_open(const char *what) {
    fprintf(stderr, "simulated board: serial line: ");
    perror(what);
    exit(SIM_EXIT_CANNOT_RUN);
}

// Keep the client's end open here too: between two clients the line then stays raw and up, and
// the master end does not report a hang-up without end.
static void hold_client_end(void) {
    int client = ioctl(line, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios mode;
    if (client >= 0 && tcgetattr(client, &mode) == 0) {
        cfmakeraw(&mode);
        tcsetattr(client, TCSANOW, &mode);
    }
}

// Whoever started the board learns from this that it runs, and where.
static void announce(void) {
    if (!sim_options.announced) {
        printf("%s\n", ptsname(line));
        fflush(stdout);
        sim_options.announced = true;
    }
}

void sim_uart_open(void) {
    line = sim_options.uart_fd;
    if (line < 0) {
        line = posix_openpt(O_RDWR | O_NOCTTY);
        if (line < 0 || grantpt(line) != 0 || unlockpt(line) != 0) {
            cannot_open("openpt");
        }
        sim_options.uart_is_ours = true;
    }
    sim_options.uart_fd = line;
    fcntl(line, F_SETFL, O_NONBLOCK);
    hold_client_end();
    announce();
}

static void make_pipes(void) {
    int rx[2], tx[2];
    if (pipe2(rx, O_CLOEXEC) != 0 || pipe2(tx, O_CLOEXEC) != 0) {
        cannot_open("pipe");
    }
    dup2(rx[0], STDIN_FILENO);
    dup2(tx[1], STDOUT_FILENO);
    close(rx[0]);
    close(tx[1]);
    rx_pipe_in = rx[1];
    tx_pipe_out = tx[0];
    fcntl(rx_pipe_in, F_SETFL, O_NONBLOCK);
}

void sim_uart_start(int fd) {
    buttons_fd = fd;
    make_pipes();
    main_thread = pthread_self();
    struct sigaction interrupt = { .sa_handler = on_interrupt }; // no SA_RESTART: end system calls
    sigaction(SIM_SIGNAL_INTERRUPT, &interrupt, NULL);

    // The thread takes no signals.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    if (pthread_create(&thread, NULL, uart_thread, NULL) != 0) {
        cannot_open("thread");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// Wait until what was printed is on the line, but not for a reader who is away.
void sim_uart_drain(void) {
    long until = now_ms() + DRAIN_MAX_MS;
    int waiting;
    while (now_ms() < until && ioctl(tx_pipe_out, FIONREAD, &waiting) == 0
           && (waiting > 0 || atomic_load(&tx_busy))) {
        usleep(200);
    }
}

void sim_uart_deafen(void) {
    atomic_store(&interrupt_char, -1);
    atomic_store(&deaf, true);
}

// ---- Before the unix port's own (the linker's --wrap) ----

void __real_mp_hal_set_interrupt_char(char c);
int __real_mp_hal_stdin_rx_chr(void);
mp_uint_t __real_mp_hal_stdout_tx_strn(const char *str, size_t len);
void __real_mp_hal_stdout_tx_strn_cooked(const char *str, size_t len);

void __wrap_mp_hal_set_interrupt_char(char c) {
    if (!sim_options.board) {
        __real_mp_hal_set_interrupt_char(c);
        return;
    }
    atomic_store(&interrupt_char, (signed char)c);
}

int __wrap_mp_hal_stdin_rx_chr(void) {
    if (!sim_options.board) {
        return __real_mp_hal_stdin_rx_chr();
    }
    for (;;) {
        unsigned char c;
        if (read(STDIN_FILENO, &c, 1) == 1) {
            return c;
        }
        mp_handle_pending(true);
    }
}

mp_uint_t __wrap_mp_hal_stdout_tx_strn(const char *str, size_t len) {
    if (!sim_options.board) {
        return __real_mp_hal_stdout_tx_strn(str, len);
    }
    for (size_t sent = 0; sent < len;) {
        ssize_t n = write(STDOUT_FILENO, str + sent, len - sent);
        if (n > 0) {
            sent += (size_t)n;
        } else {
            mp_handle_pending(true);
        }
    }
    return len;
}

void __wrap_mp_hal_stdout_tx_strn_cooked(const char *str, size_t len) {
    if (!sim_options.board) {
        __real_mp_hal_stdout_tx_strn_cooked(str, len);
        return;
    }
    while (len > 0) {
        const char *newline = memchr(str, '\n', len);
        size_t n = newline != NULL ? (size_t)(newline - str) : len;
        __wrap_mp_hal_stdout_tx_strn(str, n);
        str += n;
        len -= n;
        if (newline != NULL) {
            __wrap_mp_hal_stdout_tx_strn("\r\n", 2);
            str++;
            len--;
        }
    }
}
