"""A server in a world of its own, made from a number: its clock, its disk, its clients, and everything that goes wrong.

    disks    a disk that is full, fails, cuts writes off, and loses what was not synced
    clients  who sends hits: whole or in pieces, slowly, or gone before the answer
    world    a run: rounds of hits and of misfortune, and after each all answers against the reference
    faults   what is broken on purpose, to see that a run finds it

Time is Trio's clock that jumps; chance is one generator. So a run is the same for the same number:

    python -m tests.simulation 17        one run, told
    python -m tests.simulation 0 10000   many
"""
