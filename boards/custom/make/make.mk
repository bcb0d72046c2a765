# What HANDFAST_OPTIONS adds to a build of MicroPython by make; a variant includes this. For cmake
# the same is in ../cmake. $(HANDFAST_CUSTOM_DIR) is the folder above this one,
# $(HANDFAST_FIRMWARE_DIR) the one of the device library.
handfast_option = $(filter $(1),$(HANDFAST_OPTIONS))
handfast_macro = HANDFAST_$(subst -,_,$(1))

CFLAGS_EXTRA += -I$(HANDFAST_CUSTOM_DIR)/mbedtls -DHANDFAST_OPTIONS=1 \
	$(foreach option,$(HANDFAST_OPTIONS),-D$(call handfast_macro,$(option))=1)

ifneq ($(call handfast_option,secure-element),)
MICROPY_PY_SSL_ECDSA_SIGN_ALT = 1
endif

ifneq ($(call handfast_option,settrace),)
CFLAGS_EXTRA += -DMICROPY_PY_SYS_SETTRACE=1
endif

ifneq ($(call handfast_option,session-resumption),)
CFLAGS_EXTRA += -DMICROPY_PY_SSL_SESSION=1
endif

ifneq ($(call handfast_option,tls13),)
include $(HANDFAST_CUSTOM_DIR)/mbedtls/tls13_sources.mk
SRC_THIRDPARTY_C += $(addprefix lib/mbedtls/library/,$(HANDFAST_TLS13_SOURCES))
endif

ifneq ($(call handfast_option,fast-mbedtls),)
# The last -O counts.
$(BUILD)/lib/mbedtls/library/%.o: CFLAGS += -O2
endif

ifneq ($(call handfast_option,frozen-mtls),)
# manifest.py includes what the board freezes anyway, which it is told by this.
export HANDFAST_BASE_MANIFEST := $(FROZEN_MANIFEST)
export HANDFAST_FIRMWARE_DIR
FROZEN_MANIFEST = $(HANDFAST_CUSTOM_DIR)/make/manifest.py
endif
