// A NOR flash chip: erasing sets all bits of a sector, programming only clears bits, and the power
// can fail in the middle of an operation. Where its content is kept is the board's own affair.
#include <string.h>

#include "py/mperrno.h"
#include "py/runtime.h"
#include "extmod/vfs.h"
#include "sim.h"

#define PAGE_BYTES (256)

SIM_KEPT_BY_RESET long sim_flash_cut_after;
long sim_flash_operations;
long sim_flash_erasures;

// ---- What the chip can do ----

// How many of an operation's bytes get done before the power fails: all, or half, or none.
static size_t powered_bytes(size_t n) {
    sim_flash_operations++;
    if (sim_flash_cut_after < 0) {
        return n;
    }
    return sim_flash_cut_after-- > 0 ? n : sim_options.cut_clean ? 0 : n / 2;
}

static void erase_bytes(size_t offset, size_t from, size_t to) {
    memset(sim_chip + offset + from, 0xff, to - from);
}

static void program_bytes(size_t offset, const uint8_t *bytes, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        sim_chip[offset + i] &= bytes[i];
    }
}

// What a cut before the operation would leave, and then one in the middle of it, is to be seen.
static size_t shown_bytes(size_t n, size_t done) {
    if (sim_options.step_fd == 0 || done < n) {
        return 0;
    }
    sim_flash_step();
    return n / 2;
}

static void erase_sector(size_t offset) {
    sim_flash_erasures++;
    size_t done = powered_bytes(SIM_SECTOR_BYTES), shown = shown_bytes(SIM_SECTOR_BYTES, done);
    if (shown > 0) {
        erase_bytes(offset, 0, shown);
        sim_flash_step();
    }
    erase_bytes(offset, shown, done);
    sim_chip_changed(offset, done);
    if (done < SIM_SECTOR_BYTES) {
        sim_power_cut();
    }
}

static void program_page(size_t offset, const uint8_t *from, size_t n) {
    size_t done = powered_bytes(n), shown = shown_bytes(n, done);
    if (shown > 0) {
        program_bytes(offset, from, 0, shown);
        sim_flash_step();
    }
    program_bytes(offset, from, shown, done);
    sim_chip_changed(offset, done);
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
    if (sector < 0 || (size_t)sector > sim_chip_bytes / SIM_SECTOR_BYTES || offset < 0 || (size_t)offset > sim_chip_bytes) {
        mp_raise_OSError(MP_EINVAL);
    }
    size_t start = (size_t)sector * SIM_SECTOR_BYTES + (size_t)offset;
    if (start > sim_chip_bytes || buffer->len > sim_chip_bytes - start) {
        mp_raise_OSError(MP_EINVAL);
    }
    return start;
}

static mp_obj_t flash_readblocks(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t buffer;
    size_t start = range_of(n_args, args, &buffer, MP_BUFFER_WRITE);
    memcpy(buffer.buf, sim_chip + start, buffer.len);
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
        for (size_t at = 0; at < buffer.len; at += SIM_SECTOR_BYTES) {
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
            return MP_OBJ_NEW_SMALL_INT(sim_chip_bytes / SIM_SECTOR_BYTES);
        case MP_BLOCKDEV_IOCTL_BLOCK_SIZE:
            return MP_OBJ_NEW_SMALL_INT(SIM_SECTOR_BYTES);
        case MP_BLOCKDEV_IOCTL_BLOCK_ERASE: {
            mp_int_t sector = mp_obj_get_int(argument);
            if (sector < 0 || (size_t)sector >= sim_chip_bytes / SIM_SECTOR_BYTES) {
                return MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
            }
            erase_sector((size_t)sector * SIM_SECTOR_BYTES);
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
    for (size_t i = 0; i < SIM_SECTORS_MIN * SIM_SECTOR_BYTES; i++) {
        if (sim_chip[i] != 0xff) {
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
