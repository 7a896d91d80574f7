"""`python -m app.cli`: how one command of ours starts another one."""

import sys

from app.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
