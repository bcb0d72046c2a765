// Interrupts, what they wake, and waiting for one.
//
// The main program waits in mps2_wait() and nowhere else, and the time spent there is counted: the
// machine's time less this is what the program's own instructions took.
#include "py/mphal.h"
#include "py/runtime.h"
#include "shared/runtime/softtimer.h"
#include "lwip/timeouts.h"
#include "mps2.h"

#define SYSTICK_MS      (50) // lwIP's shortest period is 250
#define TIMER_RUNS      (9)  // enabled, with its interrupt
#define LONGEST_WAIT_MS (1000)

static volatile bool happened; // an interrupt since the last wait
static volatile bool soft_timer_is_due;
static uint64_t waited_ticks;

void mps2_interrupts_init(void) {
    SCB_PRIORITY(EXCEPTION_PENDSV) = PRIORITY_PENDSV;
    SCB_PRIORITY(EXCEPTION_SYSTICK) = PRIORITY_DEVICE;
    NVIC_PRIORITY(IRQ_UART0_RX) = PRIORITY_UART;
    static const uint8_t devices[] = { IRQ_TIMER_WAIT, IRQ_TIMER_SOFT, IRQ_ETHERNET };
    for (size_t i = 0; i < sizeof(devices); i++) {
        NVIC_PRIORITY(devices[i]) = PRIORITY_DEVICE;
    }
    NVIC_ENABLE = 1 << IRQ_UART0_RX | 1 << IRQ_TIMER_WAIT | 1 << IRQ_TIMER_SOFT;
    SYSTICK_LOAD = SYSTICK_MS * TICKS_PER_MS - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = 7; // the CPU's clock, its interrupt, on
}

uint32_t mps2_irq_save(void) {
    uint32_t state;
    __asm volatile ("mrs %0, primask\n cpsid i" : "=r" (state) :: "memory");
    return state;
}

void mps2_irq_restore(uint32_t state) {
    __asm volatile ("msr primask, %0" :: "r" (state) : "memory");
}

uint32_t mps2_pendsv_lock(void) {
    uint32_t state;
    __asm volatile ("mrs %0, basepri" : "=r" (state));
    __asm volatile ("msr basepri_max, %0" :: "r" (PRIORITY_PENDSV) : "memory");
    return state;
}

void mps2_pendsv_unlock(uint32_t state) {
    __asm volatile ("msr basepri, %0" :: "r" (state) : "memory");
}

void mps2_pend(void) {
    SCB_ICSR = SCB_ICSR_PENDSVSET;
}

void mps2_woken(void) {
    happened = true;
}

// Handlers

void mps2_pendsv_irq(void) {
    happened = true;
    if (soft_timer_is_due) {
        soft_timer_is_due = false;
        soft_timer_handler();
    }
    mps2_lan_poll();
    sys_check_timeouts();
}

void mps2_systick_irq(void) {
    mps2_clock_keep();
    mps2_pend();
}

void mps2_timer_wait_irq(void) {
    TIMER_WAIT->control = 0;
    TIMER_WAIT->interrupt = 1;
    happened = true;
}

void mps2_timer_soft_irq(void) {
    TIMER_SOFT->control = 0;
    TIMER_SOFT->interrupt = 1;
    soft_timer_is_due = true;
    mps2_pend();
}

// machine.Timer

static void start(cmsdk_timer_t *timer, uint32_t ms) {
    timer->control = 0;
    timer->reload = timer->value = ms * TICKS_PER_MS;
    timer->control = TIMER_RUNS;
}

uint32_t soft_timer_get_ms(void) {
    return mp_hal_ticks_ms();
}

void soft_timer_schedule_at_ms(uint32_t ticks_ms) {
    int32_t left = soft_timer_ticks_diff(ticks_ms, mp_hal_ticks_ms());
    // One that is further off is asked for again when this time is over.
    start(TIMER_SOFT, (uint32_t)MIN(MAX(left, 1), LONGEST_WAIT_MS));
}

// Waiting

// Until something happens, or that long; -1: for ever. It may end sooner, for nothing.
void mps2_wait(int timeout_ms) {
    if (timeout_ms == 0) {
        return;
    }
    uint32_t state = mps2_irq_save();
    if (!happened) {
        if (timeout_ms > 0) {
            start(TIMER_WAIT, MIN(timeout_ms, LONGEST_WAIT_MS));
        }
        uint64_t from = mps2_ticks();
        __asm volatile ("wfi"); // wakes for an interrupt that is still held back
        waited_ticks += mps2_ticks() - from;
        TIMER_WAIT->control = 0;
    }
    mps2_irq_restore(state); // what woke it is taken here
    happened = false;
}

uint64_t mps2_waited_ticks(void) {
    return waited_ticks;
}

void mp_hal_delay_ms(mp_uint_t ms) {
    mp_uint_t start_ms = mp_hal_ticks_ms();
    for (;;) {
        mp_uint_t gone = mp_hal_ticks_ms() - start_ms;
        if (gone >= ms) {
            mp_handle_pending(true);
            return;
        }
        mp_event_wait_ms(MIN(ms - gone, LONGEST_WAIT_MS));
    }
}

void mp_hal_delay_us(mp_uint_t us) {
    mp_uint_t start_us = mp_hal_ticks_us();
    while (mp_hal_ticks_us() - start_us < us) {
    }
}
