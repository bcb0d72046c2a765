# What is frozen into the board: what the simulated ones have.
include("$(MPY_DIR)/extmod/asyncio")
freeze("../sim/modules")
