"""Runs a fuzzer: `python -m tests.fuzz TARGET FOLDER [OPTION ...]`; options are libFuzzer's.

Seeds are put into FOLDER, which is the corpus. `make fuzz` builds what this needs and runs all of them.
"""

import sys
from hashlib import blake2b
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["online.logs", "online.keep", "online.http", "online.bus"]):
    from tests.fuzz.targets import TARGETS


def main():
    name, folder, *options = sys.argv[1:]
    target = TARGETS[name]
    corpus = Path(folder)
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / blake2b(seed, digest_size=10).hexdigest()).write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
