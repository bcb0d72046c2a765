"""Names that bytecode holds as numbers, and each MicroPython in its ROM.

py/makeqstrdata.py, static_qstr_list, of MicroPython 1.25.0 and 1.26.1: part of the format of .mpy
files, version 6. Only those that can stand for another name: the compiler gives const, super and
micropython a meaning.
"""

from __future__ import annotations

_LOWER_CASE = """
abs all any append args bool builtins bytearray bytes callable chr classmethod clear close copy
count dict dir divmod end endswith eval exec extend find format from_bytes get getattr globals
hasattr hash id index insert int isalpha isdigit isinstance islower isspace issubclass isupper
items iter join key keys len list little locals lower lstrip main map next object open ord pop
popitem pow print range read readinto readline remove replace repr reverse rfind rindex round
rsplit rstrip self send sep set setattr setdefault sort sorted split start startswith staticmethod
step stop str strip sum throw to_bytes tuple type update upper value values write zip
"""
# Of one octet, and of builtins that this library does not use.
_EXCEPTIONS = """
ArithmeticError AssertionError EOFError Ellipsis GeneratorExit IndentationError LookupError
NameError NoneType NotImplementedError OverflowError SyntaxError SystemExit ZeroDivisionError
"""

STATIC_NAMES = tuple(_LOWER_CASE.split())
PARAMETER_NAMES = tuple(_EXCEPTIONS.split())
