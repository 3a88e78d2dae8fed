"""python -m stn_utils train | compare | predict | study | data | doctor"""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
