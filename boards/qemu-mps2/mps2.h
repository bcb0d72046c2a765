// The MPS2 board's registers (Arm AN385; ARM DDI 0479 for the CMSDK's), and what the files here share.
#ifndef MPS2_H
#define MPS2_H

#include <stdbool.h>
#include <stdint.h>

#include "profile.h"

#define CPU_HZ              (SIM_CPU_FREQ_HZ)
#define TICKS_PER_MS        (CPU_HZ / 1000)
#define TICKS_PER_US        (CPU_HZ / 1000000)

#define MPS2_REG(address)   (*(volatile uint32_t *)(address))

#define SYSTICK_CTRL        MPS2_REG(0xE000E010)
#define SYSTICK_LOAD        MPS2_REG(0xE000E014)
#define SYSTICK_VALUE       MPS2_REG(0xE000E018)
#define NVIC_ENABLE         MPS2_REG(0xE000E100)
#define NVIC_DISABLE        MPS2_REG(0xE000E180)
#define NVIC_PRIORITY(irq)  (*(volatile uint8_t *)(0xE000E400 + (irq)))
#define SCB_ICSR            MPS2_REG(0xE000ED04)
#define SCB_ICSR_PENDSVSET  (1u << 28)
#define SCB_AIRCR           MPS2_REG(0xE000ED0C)
#define SCB_AIRCR_RESET     (0x05FA0004)
#define SCB_PRIORITY(number) (*(volatile uint8_t *)(0xE000ED14 + (number))) // exceptions 4 to 15
#define EXCEPTION_PENDSV    (14)
#define EXCEPTION_SYSTICK   (15)

typedef struct {
    volatile uint32_t data, state, control, interrupts, divider;
} cmsdk_uart_t;
#define UART0               ((cmsdk_uart_t *)0x40004000)

typedef struct {
    volatile uint32_t control, value, reload, interrupt;
} cmsdk_timer_t;
#define TIMER_WAIT          ((cmsdk_timer_t *)0x40000000) // ends a wait
#define TIMER_SOFT          ((cmsdk_timer_t *)0x40001000) // runs machine.Timer

typedef struct {
    volatile uint32_t load, value, control, clear, raw, masked, unused[762], lock;
} cmsdk_watchdog_t;
#define WATCHDOG            ((cmsdk_watchdog_t *)0x40008000)

#define FPGAIO_COUNTER      MPS2_REG(0x40028018)
#define FPGAIO_PRESCALE     MPS2_REG(0x4002801C)

enum { IRQ_UART0_RX = 0, IRQ_TIMER_WAIT = 8, IRQ_TIMER_SOFT = 9, IRQ_ETHERNET = 13, IRQS = 32 };
// The smaller, the more urgent.
enum { PRIORITY_UART = 0x00, PRIORITY_DEVICE = 0x40, PRIORITY_PENDSV = 0xC0 };

// interrupts.c
void mps2_interrupts_init(void);
void mps2_pend(void);
void mps2_woken(void);
uint64_t mps2_waited_ticks(void);

// clock.c
void mps2_clock_init(bool kept);
void mps2_clock_keep(void);
uint64_t mps2_ticks(void);

// uart.c
void mps2_uart_init(void);
void mps2_uart_irq(void);

// flash.c, host_random.c: files on the host.
void mps2_host_random_init(void);

// lan9118.c
void mps2_lan_irq(void);
void mps2_lan_poll(void);

// power.c
bool mps2_power_init(void);
void mps2_watchdog_barked(void);
void mps2_exit(int status) __attribute__((noreturn));
void mps2_cannot_run(const char *why) __attribute__((noreturn));

#endif
