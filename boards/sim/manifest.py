# What is frozen into the simulated board: what its kind has, less micropython-lib.
include("$(MPY_DIR)/extmod/asyncio")
freeze("modules")
