"""What a board printed by itself while it was brought to its prompt."""

from __future__ import annotations

import re

# What MicroPython's prompts say (shared/runtime/pyexec.c), and what our own Ctrl-C makes of a
# program that does not catch it.
_NOT_THE_PROGRAMS = re.compile(
    rb"(?:\r\n)?(?:>>> |\.\.\. |=== )(?:\r\n)?"
    rb"|(?:^|(?<=[\n\x04]))"
    rb"Traceback \(most recent call last\):\r\n(?:  [^\n]*\n)*KeyboardInterrupt: ?\r\n"
    rb"|MicroPython v[^\n]*\nType \"help\(\)\" for more information\.\r\n"
    rb"|raw REPL; CTRL-B to exit\r\n"
    rb"|\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n"
    rb"|(?:^|(?<=[\n\x04]))>(?:\r\n|(?=raw REPL|\x04|$))"
    rb"|[\x00-\x08\x0e-\x1f]"
)


def of_the_program(printed: bytes) -> bytes:
    """Return what is not the prompt's: what a program printed until it was stopped."""
    return _NOT_THE_PROGRAMS.sub(b"", printed)
