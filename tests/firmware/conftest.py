"""The device library's pure modules run on CPython too: `import mtls` finds firmware/mtls."""

import sys

from handfast.resources import firmware_dir

sys.path.insert(0, str(firmware_dir()))
