"""What people would use instead, one file each: how to start it, and the same work in its words.

A peer is a context manager; inside, `port` is where it listens on loopback, `pid` whose processor time counts,
`hits(hits)` the bytes of a pipelined stream of hits, and `reply_bytes` the length of the answer to each.
"""
