# Freezes the device library beside whatever the board freezes.
import os

include(os.environ["HANDFAST_BASE_MANIFEST"])  # noqa: F821 (MicroPython's manifest language)
package("mtls", base_path=os.environ["HANDFAST_FIRMWARE_DIR"], opt=3)  # noqa: F821
