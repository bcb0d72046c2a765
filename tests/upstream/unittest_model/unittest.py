# Stands in for micropython-lib's unittest, which no source package has: as much of it as
# MicroPython's own tests of sockets and TLS use, and the summary that its run-tests.py reads.
import sys


class SkipTest(Exception):
    pass


class _Raises:
    def __init__(self, expected):
        self.expected = expected
        self.exception = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            raise AssertionError("%r was not raised" % self.expected)
        self.exception = value
        return issubclass(kind, self.expected)


class TestCase:
    def setUp(self):
        pass

    def tearDown(self):
        pass

    def fail(self, message="fail() was called"):
        raise AssertionError(message)

    def skipTest(self, reason):
        raise SkipTest(reason)

    def assertEqual(self, one, other, message=""):
        if one != other:
            raise AssertionError(message or "%r is not %r" % (one, other))

    def assertTrue(self, value, message=""):
        if not value:
            raise AssertionError(message or "%r is not true" % (value,))

    def assertFalse(self, value, message=""):
        self.assertTrue(not value, message)

    def assertIsNone(self, value, message=""):
        self.assertTrue(value is None, message or "%r is not None" % (value,))

    def assertIn(self, one, other, message=""):
        self.assertTrue(one in other, message or "%r is not in %r" % (one, other))

    def assertRaises(self, expected, function=None, *arguments, **named):
        if function is None:
            return _Raises(expected)
        with _Raises(expected):
            function(*arguments, **named)


def skipIf(condition, reason):
    def decorated(function):
        def skipped(self):
            raise SkipTest(reason)

        return skipped if condition else function

    return decorated


def skipUnless(condition, reason):
    return skipIf(not condition, reason)


def skip(reason):
    return skipIf(True, reason)


def _run_one(case, name, counts):
    print("%s (%s) ..." % (name, type(case).__name__), end="")
    try:
        case.setUp()
        try:
            getattr(case, name)()
        finally:
            case.tearDown()
        print(" ok")
    except SkipTest as reason:
        counts["skipped"] += 1
        print(" skipped:", reason)
    except AssertionError as problem:
        counts["failures"] += 1
        print(" FAIL")
        sys.print_exception(problem)
    except Exception as problem:
        counts["errors"] += 1
        print(" ERROR")
        sys.print_exception(problem)


def main(module="__main__"):
    counts = {"skipped": 0, "failures": 0, "errors": 0}
    number = 0
    namespace = vars_of(module)
    for kind in list(namespace.values()):
        if isinstance(kind, type) and issubclass(kind, TestCase) and kind is not TestCase:
            for name in sorted(name for name in dir(kind) if name.startswith("test")):
                number += 1
                _run_one(kind(), name, counts)
    print("-" * 70)
    print("Ran %d tests\n" % number)
    if counts["failures"] or counts["errors"]:
        print("FAILED (failures=%d, errors=%d)" % (counts["failures"], counts["errors"]))
    elif counts["skipped"]:
        print("OK (skipped=%d)" % counts["skipped"])
    else:
        print("OK")


def vars_of(module):
    return __import__(module).__dict__ if isinstance(module, str) else module.__dict__
