"""Runs a fuzzer: `python -m tests.fuzz [quick | shaken] TARGET FOLDER [OPTION ...]`; options are libFuzzer's.

FOLDER is the corpus; seeds are put into it. `make fuzz` builds what this needs and runs all of them. With `quick` or
`shaken` the target is one of quick.pyx, which is built in the folder that QUICK_FUZZERS names. `shaken` changes what is
in the corpus at random, in any build of the core, for as many seconds as the option says, and adds nothing to it.
"""

import difflib
import os
import secrets
import sys
import time
from hashlib import blake2b
from pathlib import Path

#: Of `shaken`, between two looks at the clock.
INPUTS_A_ROUND = 20_000


def fill(folder, seeds):
    """Put seeds into a corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / blake2b(seed, digest_size=10).hexdigest()).write_bytes(seed)


def run(name, folder, options):
    import atheris

    with atheris.instrument_imports(include=["online.logs", "online.keep", "online.http", "online.bus"]):
        from tests.fuzz.targets import TARGETS

    fill(folder, TARGETS[name].seeds())
    atheris.Setup([sys.argv[0], *options, str(folder)], TARGETS[name])
    atheris.Fuzz()


def run_quick(name, folder, options):
    quick = built()
    fill(folder, quick.seeds_of(name))
    quick.guided(name, [*options, str(folder)])


def run_shaken(name, folder, seconds):
    quick = built()
    fill(folder, quick.seeds_of(name))
    inputs = [path.read_bytes() for path in sorted(folder.iterdir())]
    first = seed = secrets.randbits(48)
    ends_s = time.monotonic() + seconds
    took_ns = 0
    while time.monotonic() < ends_s:
        took_ns += quick.shaken(name, inputs, INPUTS_A_ROUND, seed)
        seed += 1
    print(f"{(seed - first) * INPUTS_A_ROUND} inputs of {name}, made of {len(inputs)}, in {took_ns / 1e9:.0f} s")


def built():
    from tests.fuzz.building import quick_in

    # To guess which verb was meant takes twenty microseconds of plain Python.
    difflib.get_close_matches = lambda *given, **options: []
    return quick_in(os.environ["QUICK_FUZZERS"])


def main():
    match sys.argv[1:]:
        case "quick", name, folder, *options:
            run_quick(name, Path(folder), options)
        case "shaken", name, folder, seconds:
            run_shaken(name, Path(folder), float(seconds))
        case name, folder, *options:
            run(name, Path(folder), options)


if __name__ == "__main__":
    main()
