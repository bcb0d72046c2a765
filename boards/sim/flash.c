// A NOR flash chip in a file: erasing sets all bits of a sector, programming only clears bits, and
// the power can fail in the middle of an operation.
//
// The file is mapped, so what was done before the process dies, however it dies, is on "flash".
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "py/mperrno.h"
#include "py/runtime.h"
#include "extmod/vfs.h"
#include "sim.h"

#define SECTOR_BYTES    (4096)
#define PAGE_BYTES      (256)
#define SECTORS_MIN     (2) // littlefs keeps its root in two

long sim_flash_cut_after = -1;
long sim_flash_operations;
long sim_flash_erasures;

static uint8_t *chip;
static size_t chip_bytes;

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
    chip_bytes = fresh ? (size_t)sim_options.flash_kb * 1024 : (size_t)status.st_size;
    if (chip_bytes < SECTORS_MIN * SECTOR_BYTES || chip_bytes % SECTOR_BYTES != 0) {
        fprintf(stderr, "simulated board: flash file %s: %zu bytes is not a number of %d-byte sectors, %d at least\n",
            sim_options.flash_path, chip_bytes, SECTOR_BYTES, SECTORS_MIN);
        exit(SIM_EXIT_CANNOT_RUN);
    }
    if (fresh && (errno = posix_fallocate(fd, 0, (off_t)chip_bytes)) != 0) {
        unlink(sim_options.flash_path); // a part of it would be taken for a damaged chip
        cannot_use("allocate");
    }
    chip = mmap(NULL, chip_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (chip == MAP_FAILED) {
        cannot_use("map");
    }
    if (fresh) {
        memset(chip, 0xff, chip_bytes);
    }
    sim_flash_cut_after = sim_options.cut_after;
}

// ---- What the chip can do ----

// How many of an operation's bytes get done before the power fails: all, or half, or none.
static size_t powered_bytes(size_t n) {
    sim_flash_operations++;
    if (sim_flash_cut_after < 0) {
        return n;
    }
    return sim_flash_cut_after-- > 0 ? n : sim_options.cut_clean ? 0 : n / 2;
}

static void erase_sector(size_t offset) {
    sim_flash_erasures++;
    size_t done = powered_bytes(SECTOR_BYTES);
    memset(chip + offset, 0xff, done);
    if (done < SECTOR_BYTES) {
        sim_power_cut();
    }
}

static void program_page(size_t offset, const uint8_t *from, size_t n) {
    size_t done = powered_bytes(n);
    for (size_t i = 0; i < done; i++) {
        chip[offset + i] &= from[i];
    }
    if (done < n) {
        sim_power_cut();
    }
}

// ---- The block device that a filesystem sees ----

static mp_obj_t flash_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    (void)args;
    mp_arg_check_num(n_args, n_kw, 0, 0, false);
    mp_obj_base_t *self = m_new_obj(mp_obj_base_t);
    self->type = type;
    return MP_OBJ_FROM_PTR(self);
}

// The range that (self, block, buffer[, offset]) means.
static size_t range_of(size_t n_args, const mp_obj_t *args, mp_buffer_info_t *buffer, int access) {
    mp_get_buffer_raise(args[2], buffer, access);
    mp_int_t sector = mp_obj_get_int(args[1]);
    mp_int_t offset = n_args > 3 ? mp_obj_get_int(args[3]) : 0;
    // Each by itself first: their sum could wrap round to a place that is there.
    if (sector < 0 || (size_t)sector > chip_bytes / SECTOR_BYTES || offset < 0 || (size_t)offset > chip_bytes) {
        mp_raise_OSError(MP_EINVAL);
    }
    size_t start = (size_t)sector * SECTOR_BYTES + (size_t)offset;
    if (start > chip_bytes || buffer->len > chip_bytes - start) {
        mp_raise_OSError(MP_EINVAL);
    }
    return start;
}

static mp_obj_t flash_readblocks(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t buffer;
    size_t start = range_of(n_args, args, &buffer, MP_BUFFER_WRITE);
    memcpy(buffer.buf, chip + start, buffer.len);
    return MP_OBJ_NEW_SMALL_INT(0);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(flash_readblocks_obj, 3, 4, flash_readblocks);

// Without an offset the sectors are erased first: the two forms that os.AbstractBlockDev describes.
static mp_obj_t flash_writeblocks(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t buffer;
    size_t start = range_of(n_args, args, &buffer, MP_BUFFER_READ);
    if (start % PAGE_BYTES != 0 || buffer.len % PAGE_BYTES != 0) {
        mp_raise_OSError(MP_EINVAL);
    }
    if (n_args == 3) {
        for (size_t at = 0; at < buffer.len; at += SECTOR_BYTES) {
            erase_sector(start + at);
        }
    }
    program_page(start, buffer.buf, buffer.len);
    return MP_OBJ_NEW_SMALL_INT(0);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(flash_writeblocks_obj, 3, 4, flash_writeblocks);

static mp_obj_t flash_ioctl(mp_obj_t self, mp_obj_t command, mp_obj_t argument) {
    (void)self;
    switch (mp_obj_get_int(command)) {
        case MP_BLOCKDEV_IOCTL_INIT:
        case MP_BLOCKDEV_IOCTL_DEINIT:
        case MP_BLOCKDEV_IOCTL_SYNC:
            return MP_OBJ_NEW_SMALL_INT(0);
        case MP_BLOCKDEV_IOCTL_BLOCK_COUNT:
            return MP_OBJ_NEW_SMALL_INT(chip_bytes / SECTOR_BYTES);
        case MP_BLOCKDEV_IOCTL_BLOCK_SIZE:
            return MP_OBJ_NEW_SMALL_INT(SECTOR_BYTES);
        case MP_BLOCKDEV_IOCTL_BLOCK_ERASE: {
            mp_int_t sector = mp_obj_get_int(argument);
            if (sector < 0 || (size_t)sector >= chip_bytes / SECTOR_BYTES) {
                return MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
            }
            erase_sector((size_t)sector * SECTOR_BYTES);
            return MP_OBJ_NEW_SMALL_INT(0);
        }
        default:
            return mp_const_none;
    }
}
static MP_DEFINE_CONST_FUN_OBJ_3(flash_ioctl_obj, flash_ioctl);

// Whether nothing was ever written where a filesystem keeps its root.
static mp_obj_t flash_blank(mp_obj_t self) {
    (void)self;
    for (size_t i = 0; i < SECTORS_MIN * SECTOR_BYTES; i++) {
        if (chip[i] != 0xff) {
            return mp_const_false;
        }
    }
    return mp_const_true;
}
static MP_DEFINE_CONST_FUN_OBJ_1(flash_blank_obj, flash_blank);

static const mp_rom_map_elem_t flash_locals_table[] = {
    { MP_ROM_QSTR(MP_QSTR_readblocks), MP_ROM_PTR(&flash_readblocks_obj) },
    { MP_ROM_QSTR(MP_QSTR_writeblocks), MP_ROM_PTR(&flash_writeblocks_obj) },
    { MP_ROM_QSTR(MP_QSTR_ioctl), MP_ROM_PTR(&flash_ioctl_obj) },
    { MP_ROM_QSTR(MP_QSTR_blank), MP_ROM_PTR(&flash_blank_obj) },
};
static MP_DEFINE_CONST_DICT(flash_locals, flash_locals_table);

MP_DEFINE_CONST_OBJ_TYPE(
    sim_flash_type,
    MP_QSTR_Flash,
    MP_TYPE_FLAG_NONE,
    make_new, flash_make_new,
    locals_dict, &flash_locals
    );
