"""The errors that end a command, each with the exit code that it ends with.

Every message says what happened, to what, and what to do next. The command line prints
``str(error)`` on stderr and exits with ``error.exit_code``; nothing else decides an exit code.
"""

from __future__ import annotations


class HandfastError(Exception):
    """Base of every error that a user is meant to read."""

    exit_code = 1


class CheckFailed(HandfastError):
    """A check that was asked for did not hold."""

    exit_code = 1


class UsageError(HandfastError):
    """What was asked for makes no sense: a bad option, name or file content."""

    exit_code = 2


class EnvironmentProblem(HandfastError):
    """The machine lacks something: a tool, a port, disk space, a source archive."""

    exit_code = 3


class Unreachable(HandfastError):
    """A gateway, or a place on the network, does not answer."""

    exit_code = 4


class Refused(HandfastError):
    """The gateway, a CA or a policy said no."""

    exit_code = 5


class BoardProblem(HandfastError):
    """The board gives no answer, the wrong answer, or is gone."""

    exit_code = 6
