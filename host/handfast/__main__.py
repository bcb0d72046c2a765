"""``python -m handfast`` is ``handfast``."""

from handfast.cli import main

if __name__ == "__main__":
    main()
