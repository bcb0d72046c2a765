// What the files of the simulated board share.
#ifndef SIM_H
#define SIM_H

#include "profile.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Exit status of a board whose power was cut in the middle of a flash operation.
#define SIM_EXIT_POWER_CUT  (86)
// Exit status of a board that could not be started: bad option, unusable flash file.
#define SIM_EXIT_CANNOT_RUN (2)

// What the serial line's thread sends the main thread at Ctrl-C.
#define SIM_SIGNAL_INTERRUPT (SIGUSR2)

typedef enum { SIM_POWER_ON = 1 } sim_cause_t;

// A variable that a reset leaves alone; where a reset replaces the process, options carry it over.
#ifndef SIM_KEPT_BY_RESET
#define SIM_KEPT_BY_RESET
#endif

// Where random octets come from: the host, one octet over and over, or one stream that every board
// gives again from each power-on and reset.
typedef enum {
    SIM_ENTROPY_HOST, SIM_ENTROPY_STUCK, SIM_ENTROPY_REPLAYED, SIM_ENTROPY_SOURCES
} sim_entropy_t;

typedef struct {
    bool board;             // false: the plain interpreter
    const char *flash_path;
    long flash_kb;
    long heap_kb;
    const char *unique_id;  // hexadecimal, or NULL
    sim_entropy_t entropy;
    int uart_fd;            // a PTY's master end, or -1: make one
    bool announced;         // the line's path has been printed
    bool uart_is_ours;      // made by this process: nobody else can keep its path alive
    int lifeline_fd;        // reads end-of-file when whoever wants this board has died, or -1
    long cut_after;         // flash operations to do before the power fails, or -1
    bool cut_clean;         // it fails just before the next one, not in the middle of it
    int step_fd;            // a socket: told of each moment that a cut may come at, waited for; or 0
    int64_t rtc_unix_s;     // what the clock shows at power-on
    int64_t clock_offset_us; // kept by a reset
    int cause;              // what machine.reset_cause() says
} sim_options_t;

extern sim_options_t sim_options;

// clock.c: the board's own idea of time.
void sim_clock_follow_host(void);
void sim_clock_set_unix_us(int64_t unix_us);
int64_t sim_clock_unix_us(void);
int64_t sim_clock_get_offset_us(void);
void sim_clock_set_offset_us(int64_t offset_us);
void sim_clock_start_counter(void);

// entropy.c: the random source.
extern const char *const sim_entropy_names[SIM_ENTROPY_SOURCES]; // as --entropy takes them
bool sim_random(void *out, size_t n);

// host_random.c: the host's.
bool sim_host_random(uint8_t *out, size_t n);

// uart.c: the serial line.
void sim_uart_open(void);
void sim_uart_start(int buttons_fd);
void sim_uart_drain(void);
void sim_uart_deafen(void);

// flash.c: the flash chip's content, and where it is kept.
#define SIM_SECTOR_BYTES    (4096)
#define SIM_SECTORS_MIN     (2) // littlefs keeps its root in two
extern uint8_t *sim_chip;
extern size_t sim_chip_bytes;
void sim_flash_init(void);
void sim_chip_changed(size_t start, size_t n);
void sim_flash_step(void);

// flash_device.c: what the chip can do, and the power failing meanwhile.
extern long sim_flash_cut_after;
extern long sim_flash_operations;
extern long sim_flash_erasures;

// life.c: from one soft reset to the next.
void sim_run_until_soft_reset(void);

// lines.c: the lines of Python that were run, in a build with sys.settrace.
void sim_lines_start(void);

// power.c: the ways a run of the board ends.
void sim_power_init(void);
int sim_power_buttons(char *const power_on_argv[]);
void sim_power_button(int fd);
void sim_close_sockets(void);
void sim_reset(void) __attribute__((noreturn));
void sim_power_cut(void) __attribute__((noreturn));

#endif
