"""A gateway: asks all partitions, and merges what they answer, exactly or not at all.

    gateway     the part of a server that makes it a gateway        -> merging, partitions
    partitions  connections to the servers of each partition        -> merging
    merging     questions to partitions -> one answer               -> cursors
    cursors     where a list goes on, over all partitions
"""
