"""A gateway: asks all partitions, and merges what they answer, exactly or not at all.

    gateway     the part of a server that makes it a gateway        -> asking, channels, settings
    channels    the states of channels: questions, and their replies as JSON  -> merging
    asking      a question on its way to partitions, and back       -> merging, partitions
    settings    what servers are set to, so that a gateway judges as they do  -> lines, partitions
    partitions  the lines to all partitions, by site                -> lines
    lines       a connection to the servers of a partition
    merging     answers of partitions -> one answer                 -> cursors
    cursors     where a list goes on, over all partitions
"""
