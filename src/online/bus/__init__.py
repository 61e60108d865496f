"""The bus: an append-only log of hits, which many servers share.

Whoever publishes needs no server, and every server that follows knows everybody: each is a full replica.

    entries     what a bus is: entries, and a class of a few methods
    engines     which one a url names; loads redisbus or kafkabus        -> entries
    redisbus    the one in a stream of Redis or Valkey                    -> entries
    kafkabus    the one in a topic of Kafka                               -> entries
    publisher   what waits for the bus, and how it gets there           -> entries
    places      where a state directory ends on the bus                 -> entries
    echoes      which of its own entries a server has to apply again    -> entries
    forgetting  who is to be forgotten: frames, and when they are sent  -> echoes, entries
    follower    entries -> the indexes of a server                      -> echoes, entries, forgetting
    gate        answers to hits that wait for the bus
    replica     the part of a server, and what heals gaps          -> engines, follower, gate, places, publisher, told
    division    the part of one that knows a part of the users alone    -> replica
    relay       the part of one that publishes and keeps nobody        -> engines, publisher, told
    told        INFO bus                                       -> follower, publisher
"""
