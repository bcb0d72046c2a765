MPS2_SHARED = entropy flash_device life machine_rtc modsim
SRC_USERMOD_C += $(wildcard $(USERMOD_DIR)/*.c) $(MPS2_SHARED:%=$(USER_C_MODULES)/sim/%.c)
