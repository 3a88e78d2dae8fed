"""python -m stn_utils train | compare | predict | study | data | doctor"""

import signal
import sys

from . import cli


def main() -> int:
    """The program `stn`.

    What `docker stop` and a job's time limit send counts as Ctrl-C: what is finished is kept.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
