# Handfast mTLS for MicroPython: by which anchor a peer was verified
# MIT license; Copyright (c) 2026 the Handfast authors

from hashlib import sha256


class Witness:
    """In place of pin.Pins: accepts what is verified, and notes the SHA-256 of the anchor's DER."""

    refused = False
    anchor = None

    def __init__(self):
        self._inside = False

    def verify(self, cert, depth):
        """Called from the anchor down to the leaf, depth 0; must not raise, see pin.Pins."""
        try:
            if not self._inside:
                self.anchor = sha256(cert).digest()
        except MemoryError:
            self.anchor = None
        self._inside = depth > 0
        return 0
