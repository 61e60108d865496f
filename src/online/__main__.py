"""`python -m online`: the same as the command `online`."""

import sys

from online.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
