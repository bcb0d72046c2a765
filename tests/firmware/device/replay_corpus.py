# Runs on a board: every file of the corpus, through its parser. argv: the corpus's folder.
# Prints a line for each parser: its name, the files tried, those it accepted, and the most heap
# that one file took, garbage and all.
# ruff: noqa: PTH123, PTH208  (MicroPython has no pathlib)
import gc
import os
import sys

from fuzz_targets import accepts, targets


def read(path):
    with open(path, "rb") as file:
        return file.read()


def replay(folder, target):
    accepted = most = 0
    names = sorted(os.listdir(folder))
    for name in names:
        data = read(folder + "/" + name)
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        accepted += accepts(target, data)
        most = max(most, gc.mem_alloc() - before)
        gc.enable()
    return len(names), accepted, most


corpus = sys.argv[1]
parsers = targets(read(corpus + "/anchor.der"))
for name in sorted(parsers):
    print(name, *replay(corpus + "/" + name, parsers[name]))
