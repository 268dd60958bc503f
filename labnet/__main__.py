"""``python -m labnet``: the command ``labnet``."""

import sys

from labnet.console import main

if __name__ == "__main__":
    sys.exit(main())
