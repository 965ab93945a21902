"""``python -m recbole_hns`` is the console script ``recbole-hns``."""

import sys

from recbole_hns.cli import main

if __name__ == "__main__":
    sys.exit(main())
