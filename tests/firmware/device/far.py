"""Objects of another interpreter, used as if they were here: what both ends of the pipe share.

A line is the `repr` of a message: (what is asked, operands...), or the answer to it. Numbers, text,
bytes, lists, tuples and dicts go by value, everything else by a number that its own end keeps. A
bytearray or a memoryview that is an argument is filled here as it was filled there; what is done to
a list or a dict there stays there. While an end waits for its answer it does what it is asked.
"""
# ruff: noqa: RUF005, B905, S307  (MicroPython's syntax; and each end believes the other)

import builtins
import sys


class Far:
    """An object of the other end."""

    # Without a __dict__ that a monkeypatch would take for the far one.
    __slots__ = ("_end", "_number")

    def __init__(self, end, number):
        self._end = end
        self._number = number

    def __getattr__(self, name):
        return self._end.ask("get", self, name)

    def __call__(self, *positional, **named):
        return self._end.ask("call", self, *positional, **({"named": named} if named else {}))

    def __getitem__(self, key):
        return self._end.ask("item", self, *_split(key))

    def __setitem__(self, key, value):
        self._end.ask("set_item", self, value, *_split(key))

    def __delitem__(self, key):
        self._end.ask("del_item", self, key)

    def __len__(self):
        return self._end.ask("len", self)

    def __bool__(self):
        return self._end.ask("bool", self)

    def __iter__(self):
        return self._end.ask("iter", self)

    def __next__(self):
        return self._end.ask("next", self)

    def __eq__(self, other):
        return self._end.ask("equal", self, other)

    def __hash__(self):
        return self._number

    def __repr__(self):
        return self._end.ask("repr", self)

    def __str__(self):
        return self._end.ask("str", self)


def _split(key):
    """An item's key, or the ends of a slice: only syntax makes one on MicroPython."""
    return (key.start, key.stop) if isinstance(key, slice) else (key,)


def _item(holder, first, *last):
    return holder[first : last[0]] if last else holder[first]


def _set_item(holder, value, first, *last):
    if last:
        holder[first : last[0]] = value
    else:
        holder[first] = value


def _del_item(holder, key):
    del holder[key]


def _module(name):
    outermost = __import__(name)
    return sys.modules.get(name, outermost)  # MicroPython's own modules are not in there


DOING = {
    "get": getattr,
    "set": setattr,
    "delete": delattr,
    "item": _item,
    "set_item": _set_item,
    "del_item": _del_item,
    "len": len,
    "bool": bool,
    "iter": iter,
    "next": next,
    "equal": lambda one, other: one == other,
    "repr": repr,
    "str": str,
    "bytes": bytes,
    "module": _module,
}
_FILLED = (bytearray, memoryview)
_FACTS = ("retry_after_s", "status", "type", "detail")
_NUMBERS = {"inf": float("inf"), "nan": float("nan")}


class End:
    """One end of the pipe; ``errors`` has the classes that both know by name, next to builtins."""

    far = Far

    def __init__(self, source, sink, errors):
        self._source = source
        self._sink = sink
        self._errors = errors
        self._kept = {}
        self._last = 0
        self.let_go = []  # numbers of the other end's objects that nobody has here any more

    def ask(self, what, *operands, named=None):
        """Have the other end do something; returns what came of it, or raises what it raised."""
        gone, self.let_go = self.let_go, []
        packed = [self._pack(one, True) for one in operands]
        self._send((what, packed, self._pack(named or {}), gone))
        while message := self._receive():
            kind, *told = message
            if kind == "is":
                return self._take(operands, *told)
            if kind == "raises":
                raise self._error(*told)
            self._do(kind, *told)
        raise RuntimeError("the other interpreter is gone")

    def serve(self):
        """Do what the other end asks until it closes the pipe."""
        while message := self._receive():
            self._do(*message)

    def _do(self, what, operands, named, gone):
        for number in gone:
            del self._kept[number]
        operands = [self._unpack(one) for one in operands]
        try:
            if what == "call":
                result = operands[0](*operands[1:], **self._unpack(named))
            else:
                result = DOING[what](*operands)
        except Exception as error:
            self._send(("raises",) + self._told(error))
        else:
            filled = [bytes(one) for one in operands if isinstance(one, _FILLED)]
            self._send(("is", self._pack(result), filled))

    def _take(self, operands, result, filled):
        for here, there in zip((one for one in operands if isinstance(one, _FILLED)), filled):
            if here != there:  # what was only read may be read-only
                here[:] = there
        return self._unpack(result)

    def _send(self, message):
        self._sink.write(repr(message).encode() + b"\n")
        self._sink.flush()

    def _receive(self):
        line = self._source.readline()
        return eval(line, _NUMBERS) if line else None

    # ---- Errors ----

    def _told(self, error):
        facts = {name: getattr(error, name) for name in _FACTS if hasattr(error, name)}
        return type(error).__name__, self._pack(error.args), self._pack(facts)

    def _error(self, name, arguments, facts):
        error = self._class(name)(*self._unpack(arguments))
        for fact, value in self._unpack(facts).items():
            setattr(error, fact, value)
        return error

    def _class(self, name):
        return self._errors.get(name) or getattr(builtins, name, RuntimeError)

    # ---- Values ----

    def _pack(self, value, filled=False):
        kind = type(value)
        if value is None or kind in (bool, int, float, str, bytes):
            return value
        if filled and isinstance(value, _FILLED):
            return (kind.__name__, bytes(value))
        if isinstance(value, (list, tuple)):
            name = "list" if kind is list else "tuple"
            return (name, [self._pack(one, filled) for one in value])
        if kind is dict:
            return (
                "dict",
                [(self._pack(key), self._pack(one, filled)) for key, one in value.items()],
            )
        if isinstance(value, Far):
            return ("yours", value._number)
        if isinstance(value, type) and issubclass(value, Exception):
            return ("error", value.__name__)
        self._last += 1
        self._kept[self._last] = value
        return ("mine", self._last)

    def _unpack(self, packed):
        if not isinstance(packed, tuple):
            return packed
        kind, value = packed
        if kind == "mine":
            return self.far(self, value)
        if kind == "yours":
            return self._kept[value]
        if kind == "error":
            return self._class(value)
        if kind == "bytearray":
            return bytearray(value)
        if kind == "memoryview":
            return memoryview(bytearray(value))
        if kind == "dict":
            return {self._unpack(key): self._unpack(one) for key, one in value}
        items = [self._unpack(one) for one in value]
        return tuple(items) if kind == "tuple" else items
