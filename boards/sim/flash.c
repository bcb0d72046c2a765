// The flash chip's content: a mapped file, so what was done before the process dies, however it
// dies, is on "flash". What the chip can do is in flash_device.c.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "py/mpconfig.h"
#include "sim.h"

uint8_t *sim_chip;
size_t sim_chip_bytes;

static void cannot_use(const char *what) {
    fprintf(stderr, "simulated board: flash file %s: ", sim_options.flash_path);
    perror(what);
    exit(SIM_EXIT_CANNOT_RUN);
}

void sim_flash_init(void) {
    int fd = open(sim_options.flash_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        cannot_use("open");
    }
    // The lock is this process's as long as the file stays open; a reset takes it again.
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_SETLK, &lock) != 0) {
        fprintf(stderr, "simulated board: flash file %s: another board is running on it\n", sim_options.flash_path);
        exit(SIM_EXIT_CANNOT_RUN);
    }
    struct stat status; // asked for under the lock: another board may just have made the file
    if (fstat(fd, &status) != 0) {
        cannot_use("stat");
    }
    bool fresh = status.st_size == 0;
    sim_chip_bytes = fresh ? (size_t)sim_options.flash_kb * 1024 : (size_t)status.st_size;
    if (sim_chip_bytes < SIM_SECTORS_MIN * SIM_SECTOR_BYTES || sim_chip_bytes % SIM_SECTOR_BYTES != 0) {
        fprintf(stderr, "simulated board: flash file %s: %zu bytes is not a number of %d-byte sectors, %d at least\n",
            sim_options.flash_path, sim_chip_bytes, SIM_SECTOR_BYTES, SIM_SECTORS_MIN);
        exit(SIM_EXIT_CANNOT_RUN);
    }
    if (fresh && (errno = posix_fallocate(fd, 0, (off_t)sim_chip_bytes)) != 0) {
        unlink(sim_options.flash_path); // a part of it would be taken for a damaged chip
        cannot_use("allocate");
    }
    sim_chip = mmap(NULL, sim_chip_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (sim_chip == MAP_FAILED) {
        cannot_use("map");
    }
    if (fresh) {
        memset(sim_chip, 0xff, sim_chip_bytes);
    }
    sim_flash_cut_after = sim_options.cut_after;
}

void sim_chip_changed(size_t start, size_t n) {
    (void)start;
    (void)n; // the mapping keeps it
}

// Whoever watches sees in the file what a power cut at this moment would leave, and lets it go on.
void sim_flash_step(void) {
    sim_uart_drain(); // what was printed before belongs to the moment
    char byte = 0;
    if (write(sim_options.step_fd, &byte, 1) == 1) {
        while (read(sim_options.step_fd, &byte, 1) < 0 && errno == EINTR) {
        }
    }
}
