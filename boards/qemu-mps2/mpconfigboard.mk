# MicroPython's unmodified qemu port, made a board: this folder is BOARD_DIR, and USER_C_MODULES
# names one with this folder as mps2/ and the sources it shares (boards/sim) as sim/.
QEMU_ARCH = arm
QEMU_MACHINE = mps2-an385

CFLAGS += -mthumb -mcpu=cortex-m3 -mfloat-abi=soft
CFLAGS += -DQEMU_SOC_MPS2
CFLAGS += -DMICROPY_HW_MCU_NAME='"Cortex-M3"' -DMICROPY_BOARD_BUILD_NAME='"qemu-mps2"'
CFLAGS += -DMP_CONFIGFILE='"mps2_mpconfigport.h"'
INC += -I$(BOARD_DIR) -I$(USER_C_MODULES)/sim
QSTR_GLOBAL_DEPENDENCIES += $(BOARD_DIR)/mps2_mpconfigport.h $(BOARD_DIR)/profile.h

LDSCRIPT = $(BOARD_DIR)/mps2.ld
SRC_BOARD_O = shared/runtime/gchelper_native.o shared/runtime/gchelper_thumb2.o
MPY_CROSS_FLAGS += -march=armv7m
FROZEN_MANIFEST ?= $(BOARD_DIR)/manifest.py

MBEDTLS_CONFIG_FILE = \"sim_mbedtls_config.h\"
MICROPY_VFS_LFS2 = 1
MICROPY_PY_LWIP = 1
MICROPY_PY_SSL = 1
MICROPY_SSL_MBEDTLS = 1

# The port's own main, UART and HAL are those of a test runner: `override` keeps its += away.
override SRC_C = \
	mcu/arm/errorhandler.c \
	shared/libc/string0.c \
	shared/readline/readline.c \
	shared/runtime/interrupt_char.c shared/runtime/pyexec.c shared/runtime/softtimer.c \
	shared/runtime/stdout_helpers.c shared/runtime/sys_stdio_mphal.c \
	shared/timeutils/timeutils.c

# mbedTLS and lwIP want a few functions of the C library.
override LIBS = -Wl,--start-group \
	$(shell $(CC) $(CFLAGS) -print-file-name=libc.a) \
	$(shell $(CC) $(CFLAGS) -print-libgcc-file-name) -Wl,--end-group

# What firmware may have beyond stock (boards/custom).
ifneq ($(HANDFAST_OPTIONS),)
include $(HANDFAST_CUSTOM_DIR)/make/make.mk
endif
