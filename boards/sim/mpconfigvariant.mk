# A simulated microcontroller board: an out-of-tree variant of MicroPython's unmodified unix port.
# PROFILE_DIR names the folder whose profile.h says which board is simulated.

ifeq ($(wildcard $(PROFILE_DIR)/profile.h),)
$(error PROFILE_DIR must name a folder with a profile.h)
endif

PROG = micropython
FROZEN_MANIFEST ?= $(VARIANT_DIR)/manifest.py

# py/mpconfig.h includes this instead of the port's own mpconfigport.h (which it includes in turn).
CFLAGS_EXTRA += -DMP_CONFIGFILE=\"sim_mpconfigport.h\" -I$(PROFILE_DIR)
MBEDTLS_CONFIG_FILE = \"sim_mbedtls_config.h\"
QSTR_GLOBAL_DEPENDENCIES += $(VARIANT_DIR)/sim_mpconfigport.h $(PROFILE_DIR)/profile.h

# The REPL that boards have (raw and raw-paste modes); the unix port has one of its own.
SHARED_SRC_C_EXTRA += runtime/pyexec.c

# Where the board differs from a process, the linker puts our function before the port's.
SIM_WRAP = main \
	mp_hal_set_interrupt_char mp_hal_stdin_rx_chr mp_hal_stdout_tx_strn mp_hal_stdout_tx_strn_cooked \
	mp_sys_stdin_obj mp_sys_stdout_obj mp_sys_stderr_obj \
	mp_hal_get_random mp_type_vfs_posix
# The lines that the board runs are noted (lines.c); boards/custom adds sys.settrace() itself.
ifneq ($(filter settrace,$(HANDFAST_OPTIONS)),)
SIM_WRAP += mp_compile
endif
LDFLAGS_EXTRA += $(foreach symbol,$(SIM_WRAP),-Wl,--wrap=$(symbol)) -lpthread

# What firmware may have beyond stock (boards/custom).
ifneq ($(HANDFAST_OPTIONS),)
include $(HANDFAST_CUSTOM_DIR)/make/make.mk
endif

MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_TERMIOS = 0
MICROPY_PY_THREAD = 0
MICROPY_VFS_FAT = 0
MICROPY_VFS_LFS1 = 0
