"""Runs of the simulation: `python -m tests.simulation NUMBER [HOW_MANY]`."""

import logging
import sys
import traceback

from tests.simulation.world import simulate


def main():
    logging.disable(logging.CRITICAL)
    first, count = int(sys.argv[1]), int((*sys.argv, 1)[2])
    failed = []
    for number in range(first, first + count):
        try:
            told, _ = simulate(number)
        except BaseException:
            failed.append(number)
            print(f"seed {number} fails:", file=sys.stderr)
            traceback.print_exc(limit=-3)
            if len(failed) == 10:
                break
        else:
            if count == 1:
                print(f"seed {number}: {', '.join(told)}")
    print(f"{count} seeds from {first}, failed: {failed or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
