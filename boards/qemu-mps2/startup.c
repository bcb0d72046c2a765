// The vector table, and from reset to main(). Faults are errorhandler.c's, of the port.
#include "py/mpconfig.h"
#include "py/misc.h"
#include "mps2.h"

extern uint32_t _estack, _sidata, _sdata, _edata, _sbss, _ebss;
int main(void);

typedef void (*vector_t)(void);
void HardFault_Handler(void), MemManage_Handler(void), BusFault_Handler(void);
void UsageFault_Handler(void), SVC_Handler(void), DebugMon_Handler(void);
void mps2_pendsv_irq(void), mps2_systick_irq(void);
void mps2_timer_wait_irq(void), mps2_timer_soft_irq(void);

MP_NORETURN static void reset(void) {
    for (uint32_t *from = &_sidata, *to = &_sdata; to < &_edata;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &_sbss; to < &_ebss;) {
        *to++ = 0;
    }
    main();
    for (;;) {
    }
}

#define VECTOR_OF_IRQ(irq) [16 + (irq)]

__attribute__((section(".vectors"), used)) static const vector_t vectors[16 + IRQS] = {
    (vector_t)&_estack,
    reset,
    mps2_watchdog_barked, // NMI
    HardFault_Handler,
    MemManage_Handler,
    BusFault_Handler,
    UsageFault_Handler,
    [11] = SVC_Handler,
    DebugMon_Handler,
    [EXCEPTION_PENDSV] = mps2_pendsv_irq,
    [EXCEPTION_SYSTICK] = mps2_systick_irq,
    VECTOR_OF_IRQ(IRQ_UART0_RX) = mps2_uart_irq,
    VECTOR_OF_IRQ(IRQ_TIMER_WAIT) = mps2_timer_wait_irq,
    VECTOR_OF_IRQ(IRQ_TIMER_SOFT) = mps2_timer_soft_irq,
    VECTOR_OF_IRQ(IRQ_ETHERNET) = mps2_lan_irq,
};
