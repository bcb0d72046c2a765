// machine.Pin: a pin's name, to hand to a driver. Nothing is connected to the emulated board's pins.
#include "py/runtime.h"

typedef struct {
    mp_obj_base_t base;
    mp_int_t number;
} pin_obj_t;

static mp_obj_t pin_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 1, 1, false);
    pin_obj_t *self = mp_obj_malloc(pin_obj_t, type);
    self->number = mp_obj_get_int(args[0]);
    return MP_OBJ_FROM_PTR(self);
}

static void pin_print(const mp_print_t *print, mp_obj_t self, mp_print_kind_t kind) {
    (void)kind;
    mp_printf(print, "Pin(%d)", (int)((pin_obj_t *)MP_OBJ_TO_PTR(self))->number);
}

MP_DEFINE_CONST_OBJ_TYPE(
    mps2_pin_type,
    MP_QSTR_Pin,
    MP_TYPE_FLAG_NONE,
    make_new, pin_make_new,
    print, pin_print
    );
