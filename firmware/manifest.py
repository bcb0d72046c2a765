# Freezes the device library into a firmware: FROZEN_MANIFEST, or include() this file.
# MIT license; Copyright (c) 2026 the Handfast authors

package("mtls", base_path=".", opt=3)  # noqa: F821 (MicroPython's manifest language)
