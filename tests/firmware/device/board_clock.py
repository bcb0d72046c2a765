# Runs on a board: the clock is set and read in Unix seconds, whatever the epoch.
# Prints the year that the board counts its seconds from.
import time

from mtls import clock

clock.set_time(1800000000)
assert 0 <= clock.now() - 1800000000 <= 2
clock.set_time(clock.BUILD_TIME)
assert 0 <= clock.now() - clock.BUILD_TIME <= 2
print(time.gmtime(0)[0])
