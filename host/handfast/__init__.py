"""Mutual TLS for MicroPython boards, and the bench that proves it."""

__version__ = "0.1.0"
