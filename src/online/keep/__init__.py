"""What outlives the process: a directory with a journal of every hit, and snapshots.

    folder      the files of the directory, their names and heads, the lock  -> disk, state
    disk        what is asked of a disk
    snapshots   all sessions -> a file, a little at a time                   -> folder
    forgotten   who was forgotten <-> a note in the journal
    recovery    the directory -> the indexes of all sites                    -> folder, forgotten
    history     the past of all sites, in SQLite
    inspection  the directory -> what is in it, for `online state`  -> forgotten, history, recovery, snapshots
    state       state files of version 0.1, which are taken over
"""
