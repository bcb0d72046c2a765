"""The ``openssl`` program, as users have it: what others make of our certificates."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from handfast.errors import CheckFailed, EnvironmentProblem

_TIMEOUT_S = 20.0
_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class OpenSsl:
    """Runs one command at a time; everything is bounded in time and size."""

    program: str

    @classmethod
    def find(cls) -> Self:
        """Return the program that is in the PATH.

        Raises:
            EnvironmentProblem: it is not installed.
        """
        program = shutil.which("openssl")
        if program is None:
            raise EnvironmentProblem(
                "the openssl program is missing: install the package openssl "
                "(as root: apt-get install openssl) and try again"
            )
        return cls(program)

    def run(self, *words: str | Path) -> str:
        """Return all that a command says, whatever its exit status.

        Raises:
            CheckFailed: it does not end in time.
        """
        command = [self.program, *(str(word) for word in words)]
        with tempfile.TemporaryFile() as said:
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=_without_proxies(),
                    timeout=_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise CheckFailed(
                    f"openssl {words[0]} did not end within {_TIMEOUT_S:g} s"
                ) from None
            said.seek(0)
            return said.read(_MOST_BYTES).decode(errors="replace")


def _without_proxies() -> dict[str, str]:
    # openssl asks a proxy for 127.0.0.1 too if the environment names one.
    return {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
