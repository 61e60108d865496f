"""Fuzzers: bytes that a program makes up, for everything that reads what others have sent or what a disk gave back.

    registry  the table of targets: a function of bytes for each, which checks what must hold, and its seeds
    targets   the wire, HTTP, states, the bus, logs, and the files of a state directory
    told      subscriptions and what they are told, and the file of the history
    quick     the same in C (quick.pyx), for what can be checked in microseconds: a hundred times as many inputs
    building  builds quick.pyx
    __main__  the fuzzer: libFuzzer, by atheris, over a core that is built to tell where it has been
    found/    inputs that were once answered wrongly, a folder for each target: test_targets runs them again

`make fuzz SECONDS=60` runs each target for so long. `test_targets` and `test_quick` run seeds and what was found, and
change them at random for a moment, without the fuzzer.
"""
