# Runs on a board: sets the clock by the time-stamp authority and prints how that ended, whether the
# clock is believed, its year, and the floor on flash, as a JSON list.
# argv: store root, timeout in ms, what the clock says before.
import json
import sys

from mtls.clock import Clock, now, set_time, to_civil
from mtls.errors import MTLSError
from mtls.store import Store
from mtls.timesync import sync

set_time(int(sys.argv[3]))
store = Store(sys.argv[1])
clock = Clock(store)
try:
    outcome = sync(store, clock, None, int(sys.argv[2]))
except MTLSError as error:
    outcome = type(error).__name__
print(json.dumps([outcome, clock.believable, to_civil(now())[0], store.read_floor()]))
