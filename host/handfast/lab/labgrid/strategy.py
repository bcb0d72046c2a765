"""labgrid's strategy for boards: off, flashed, provisioned, running."""

from __future__ import annotations

import enum
import time
from contextlib import closing
from pathlib import Path

import attr
from labgrid.factory import target_factory
from labgrid.protocol import BootstrapProtocol, PowerProtocol
from labgrid.step import step
from labgrid.strategy import Strategy, StrategyError, never_retry

from handfast.admin_client import AdminClient
from handfast.boards.flash.running import ask_running, compare_running
from handfast.boards.provision import provision
from handfast.errors import BoardProblem, CheckFailed, UsageError
from handfast.state import StateDir

_ANSWER_S = 30.0
_ENROLLED_S = 120.0
_POLL_S = 0.1


class Status(enum.Enum):
    """How far a board is; each state includes those before it."""

    unknown = 0
    off = 1
    flashed = 2
    provisioned = 3
    running = 4


@target_factory.reg_driver
@attr.s(eq=False)
class HandfastStrategy(Strategy):
    """Brings a board to a state through those before it; to one before, by switching it off first.

    Args:
        version (str): the MicroPython that counts as flashed, such as ``1.26.1``; "" for any
        build (str): and its build, such as ``RPI_PICO_W``; "" for any
        gateway (str): the state folder of the gateway that the board is provisioned for
        device_id (str): its name there; "" for the one it has, or is given
    """

    bindings = {  # noqa: RUF012
        "micropython": "MicroPythonDriver",
        "power": {PowerProtocol, None},
        "bootstrap": {BootstrapProtocol, None},
    }
    status: Status = attr.ib(default=Status.unknown, init=False)
    version: str = attr.ib(default="", validator=attr.validators.instance_of(str))
    build: str = attr.ib(default="", validator=attr.validators.instance_of(str))
    gateway: str = attr.ib(default="", validator=attr.validators.instance_of(str))
    device_id: str = attr.ib(default="", validator=attr.validators.instance_of(str))

    @never_retry
    @step(args=["status"])
    def transition(self, status: Status | str, *, step: step) -> None:
        """Bring the board to ``status``.

        Raises:
            StrategyError: it failed, and so will each later call; its cause is the reason.
        """
        wanted = status if isinstance(status, Status) else Status[status]
        if wanted is Status.unknown:
            raise StrategyError(f"can not transition to {wanted}")
        if wanted is self.status:
            step.skip("nothing to do")
            return
        if wanted is Status.off or wanted.value < self.status.value:
            self._off(required=wanted is Status.off)
        for stage, bring in (
            (Status.flashed, self._flash),
            (Status.provisioned, self._provision),
            (Status.running, self._run),
        ):
            if self.status.value < stage.value <= wanted.value:
                bring()
                self.status = stage

    @never_retry
    @step(args=["status"])
    def force(self, status: Status | str) -> None:
        """Take the board to be in ``status``, unseen."""
        self.status = status if isinstance(status, Status) else Status[status]

    def _off(self, *, required: bool) -> None:
        if self.power is None:
            if required:
                raise UsageError(f"nothing switches {self.target.name} off: give it a power driver")
            self.status = Status.unknown
            return
        self.target.activate(self.power)
        self.power.off()
        self.status = Status.off

    def _flash(self) -> None:
        """See that the right MicroPython answers; flash it where it does not."""
        if self.power is not None:
            self.target.activate(self.power)
            self.power.on()
        self.target.activate(self.micropython)
        if self.bootstrap is not None and not self._is_flashed():
            self.target.activate(self.bootstrap)
            self.bootstrap.load()
        self._compare()

    def _is_flashed(self) -> bool:
        if not self.version:  # then nobody can say
            return False
        try:
            self._compare()
        except (BoardProblem, CheckFailed):
            return False
        return True

    def _compare(self) -> None:
        running = ask_running(lambda: str(self.micropython.url), timeout_s=_ANSWER_S)
        compare_running(running, version=self.version or None, build=self.build or None)

    def _admin(self) -> AdminClient:
        if not self.gateway:
            raise UsageError(
                f"no gateway for {self.target.name}: name its state folder as `gateway`"
            )
        folder = self.gateway
        if self.target.env is not None:
            folder = self.target.env.config.resolve_path(folder)
        return AdminClient(StateDir.choose(Path(folder)))

    def _provision(self) -> None:
        done = provision(
            self.micropython.url,
            gateway=self._admin(),
            device_id=self.device_id or None,
            start=False,
        )
        self.device_id = done.device_id

    def _run(self) -> None:
        """Start the application, and wait until the gateway has given the board a certificate."""
        gateway = self._admin()
        with closing(self.micropython.link()) as link, link.start_application() as console:
            give_up = time.monotonic() + _ENROLLED_S
            while not _has_enrolled(gateway, self.device_id):
                if time.monotonic() > give_up:
                    last = "\n".join(line.text for line in console.lines[-12:])
                    raise BoardProblem(
                        f"{self.device_id} did not enrol within {_ENROLLED_S:g} s; "
                        f"its last lines:\n{last}"
                    )
                time.sleep(_POLL_S)


def _has_enrolled(gateway: AdminClient, device_id: str) -> bool:
    return any(row["kind"] == "ldevid" for row in gateway.device(device_id)["certificates"])
