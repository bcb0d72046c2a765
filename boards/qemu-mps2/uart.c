// The serial line: UART0, received by interrupt.
#include "py/mphal.h"
#include "py/ringbuf.h"
#include "py/runtime.h"
#include "py/stream.h"
#include "shared/runtime/interrupt_char.h"
#include "mps2.h"
#include "sim.h"

#define STATE_TX_FULL   (1)
#define STATE_RX_FULL   (2)
#define CONTROL         (1 | 2 | 8) // sends, receives, interrupts when it has received
#define INTERRUPT_RX    (2)
#define RECEIVED_BYTES  (4096)
#define PATIENCE_MS     (2000)

static uint8_t received_bytes[RECEIVED_BYTES];
static ringbuf_t received = { received_bytes, RECEIVED_BYTES, 0, 0 };
static bool nobody_reads;

void mps2_uart_init(void) {
    UART0->divider = 16; // the least that the UART sends with; an emulator has no bit rate
    UART0->control = CONTROL;
}

void mps2_uart_irq(void) {
    UART0->interrupts = INTERRUPT_RX;
    while (UART0->state & STATE_RX_FULL) {
        int octet = UART0->data & 0xff;
        if (octet == mp_interrupt_char) {
            mp_sched_keyboard_interrupt();
        } else {
            ringbuf_put(&received, octet); // too much is lost, as on any board
        }
    }
    mps2_woken();
}

uintptr_t mp_hal_stdio_poll(uintptr_t flags) {
    uintptr_t ready = flags & MP_STREAM_POLL_WR;
    if ((flags & MP_STREAM_POLL_RD) && ringbuf_avail(&received) > 0) {
        ready |= MP_STREAM_POLL_RD;
    }
    return ready;
}

int mp_hal_stdin_rx_chr(void) {
    for (;;) {
        int octet = ringbuf_get(&received);
        if (octet >= 0) {
            return octet;
        }
        mp_event_wait_indefinite();
    }
}

// As boards/sim has it: a slow reader loses nothing, an absent one does not hold the board up.
static bool can_send(void) {
    if (!(UART0->state & STATE_TX_FULL)) {
        nobody_reads = false;
        return true;
    }
    mp_uint_t from = mp_hal_ticks_ms();
    while (!nobody_reads && UART0->state & STATE_TX_FULL) {
        nobody_reads = mp_hal_ticks_ms() - from >= PATIENCE_MS;
    }
    return !nobody_reads;
}

mp_uint_t mp_hal_stdout_tx_strn(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (can_send()) {
            UART0->data = (uint8_t)text[i];
        }
    }
    return n;
}

void sim_uart_drain(void) {
    can_send();
}
