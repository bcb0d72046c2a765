# A watchdog over the model's time. argv: patience in s, how often there is progress in s, until
# when, whether the port's timers are numbered. Prints at which second the board is reset, or null.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
import network_model

sys.modules["machine"] = network_model
patience_s, every_s, until_s, network_model.Timer.numbered = [
    json.loads(text) for text in sys.argv[1:5]
]
from mtls import watchdog  # noqa: E402

clock = network_model.clock
watchdog.time = clock
dog = watchdog.Watchdog(patience_s)
timer = network_model.Timer.running
reset_at = None
while clock.now_ms < until_s * 1000 and reset_at is None:
    clock.now_ms += timer.period
    if every_s and clock.now_ms % (every_s * 1000) == 0:
        dog.progress()
    timer.callback(timer)
    if network_model.WDT.running.bitten():
        reset_at = clock.now_ms // 1000
print(json.dumps(reset_at))
