// sys.stdin, sys.stdout and sys.stderr as boards have them: all three are the UART, text is sent
// with \r\n, and .buffer is the raw line. MicroPython's own file for that, under other names: the
// unix port already has objects with these, on file descriptors of the host.
#include <poll.h>
#include <unistd.h>

#include "py/mphal.h"
#include "py/runtime.h"
#include "py/stream.h"

static uintptr_t stdio_poll(uintptr_t wanted) {
    struct pollfd line = { STDIN_FILENO, POLLIN, 0 };
    uintptr_t ready = wanted & MP_STREAM_POLL_WR;
    if ((wanted & MP_STREAM_POLL_RD) && poll(&line, 1, 0) == 1) {
        ready |= MP_STREAM_POLL_RD;
    }
    return ready;
}

#undef mp_hal_stdio_poll
#define mp_hal_stdio_poll stdio_poll
#define mp_sys_stdin_obj __wrap_mp_sys_stdin_obj
#define mp_sys_stdout_obj __wrap_mp_sys_stdout_obj
#define mp_sys_stderr_obj __wrap_mp_sys_stderr_obj
#include "shared/runtime/sys_stdio_mphal.c"
