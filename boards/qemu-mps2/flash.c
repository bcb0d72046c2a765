// The flash chip's content: in memory, as a chip's is mapped, and in a file on the host, into which
// each change goes at once. What the chip can do is in boards/sim/flash_device.c.
#include "py/mpconfig.h"
#include "mps2.h"
#include "semihosting.h"
#include "sim.h"

#define MOST_BYTES (2 * 1024 * 1024)

static SIM_KEPT_BY_RESET uint8_t content[MOST_BYTES]; // not to be cleared first
static int file;

uint8_t *sim_chip = content;
size_t sim_chip_bytes;

void sim_flash_init(void) {
    file = semihosting_open(sim_options.flash_path, OPEN_READ_WRITE);
    int length = file < 0 ? -1 : semihosting_length(file);
    if (length < SIM_SECTORS_MIN * SIM_SECTOR_BYTES || length > MOST_BYTES || length % SIM_SECTOR_BYTES != 0) {
        mps2_cannot_run("the flash file cannot be opened, or is no number of sectors that fits\n");
    }
    sim_chip_bytes = length;
    if (semihosting_transfer(SYS_READ, file, content, length) != 0) {
        mps2_cannot_run("the flash file cannot be read\n");
    }
    sim_flash_cut_after = sim_options.cut_after;
}

void sim_flash_step(void) {
    // Nobody watches: there is no option for it.
}

void sim_chip_changed(size_t start, size_t n) {
    if (semihosting_seek(file, start) < 0 || semihosting_transfer(SYS_WRITE, file, content + start, n) != 0) {
        mps2_cannot_run("the flash file cannot be written\n");
    }
}
