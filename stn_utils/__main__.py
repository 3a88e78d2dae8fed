"""python -m stn_utils train | compare | predict | export | study | data | doctor"""

import signal
import sys


def main() -> int:
    """The program `stn`.

    What `docker stop` and a job's time limit send counts as Ctrl-C: what is finished is kept.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from . import cli  # takes seconds, in which somebody may think better of it
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
