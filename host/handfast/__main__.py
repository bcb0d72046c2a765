"""The command ``handfast``, and ``python -m handfast``."""

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is still being imported ends as any other does."""
    try:
        from handfast import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("handfast: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
