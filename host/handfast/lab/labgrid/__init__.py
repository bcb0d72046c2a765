"""labgrid drivers, resources and a strategy for boards: name this module in ``imports:``.

Importing it imports labgrid (``pip install 'handfast[labgrid]'``), which nothing else of handfast
does before it is asked for. docs/how-to/many-boards.md shows the whole of it.
"""

from handfast.lab.labgrid.flashing import EspFlashDriver, PicoBootDriver
from handfast.lab.labgrid.micropython import MicroPythonDriver
from handfast.lab.labgrid.simulator import SimulatedBoardDriver
from handfast.lab.labgrid.strategy import HandfastStrategy, Status

__all__ = [
    "EspFlashDriver",
    "HandfastStrategy",
    "MicroPythonDriver",
    "PicoBootDriver",
    "SimulatedBoardDriver",
    "Status",
]
