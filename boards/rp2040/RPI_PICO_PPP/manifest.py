freeze("$(PORT_DIR)/modules", "rp2.py")  # noqa: F821
include("$(MPY_DIR)/extmod/asyncio")  # noqa: F821
freeze("modules")  # noqa: F821
