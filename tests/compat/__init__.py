"""What version 1 promises to older clients and to the disk (docs/versions.md), held by recordings of older versions.

    client-0.1.txt  what the client of version 0.1 sent, and what its server answered
    state-0.1       a state file of version 0.1
    state-1         a state directory as version 1 writes it

Recordings are never made anew: what a later version writes gets a name of its own beside them.
"""
