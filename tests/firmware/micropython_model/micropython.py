"""What the device library's pure modules need of `micropython` when they run on CPython."""


def const(value):
    """On a board the compiler puts the value where the name stands."""
    return value
