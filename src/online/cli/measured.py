"""What a server costs, as measured in this repository: the one place of the constants of `online plan`.

Each says where it comes from. Times are of one core of the machine of docs/performance.md: 2 cores of an AMD EPYC
(family 26), Linux 6.18, Python 3.11. Not here: what is made of them (plan).
"""

#: Memory of a process without users: INFO used_memory_rss, which is 39 MB, 2026-11-28.
PROCESS_BYTES = 40_000_000

#: The least of a site that has users: INFO sites, memory_bytes of a site with one user, 2026-11-28.
SITE_BYTES = 143_000

#: A user beside the name, right after a table has doubled, which is when memory is highest: 21 more than it becomes
#: until the next time. Names of up to NAME_BYTES take no more. Measured by tests/cli/test_plan.py; at a million users a
#: user takes 74 bytes, name and all (bench/results/latest.md, "memory, all in").
USER_BYTES = 90
NAME_BYTES = 16

#: A page beside its url, as for users: tests/cli/test_plan.py.
PAGE_BYTES = 87

#: A connection that rests (bench/results/latest.md: 1,375 B), and one that waits for events over HTTP (CHANGELOG).
CONNECTION_BYTES = 1_375
EVENTS_BYTES = 3_300

#: A hit in the journal or a snapshot beside user and url, and what one takes more that came alone in its turn
#: (docs/persistence.md). A journal is at least JOURNAL_BYTES before a snapshot replaces it.
JOURNALED_HIT_BYTES = 25
LONE_HIT_BYTES = 35
JOURNAL_BYTES = 64 * 2**20

#: How long writing a snapshot takes, a user. Not measured but assumed: a slow disk, beside other work.
SNAPSHOT_S = 10e-6

#: History of a site for 400 days: rows, and sketches of a million visitors a day (docs/persistence.md).
HISTORY_BYTES = 17_700_000
HISTORY_DAYS = 400

#: Where a member was last seen, beside user and url: 51 bytes with names of 12 and urls of 18, in SQLite, 2026-11-28.
LAST_SEEN_BYTES = 25

#: A hit on the bus, packed 50 an entry; the stream holds BUS_WINDOWS times the window (docs/scale.md).
BUS_HIT_BYTES = 60
BUS_WINDOWS = 2

#: Kafka lets go of whole segments, which are a quarter as long as what is kept: that much more may be there.
KAFKA_WINDOWS = 2.5

#: Processor time of the server: a hit in a batch of 500, a lone question or hit of one of 50 connections, and how many
#: times as much a batch costs where there is a bus (docs/performance.md; docs/scale.md: 0.55 of the rate).
BATCHED_HIT_S = 0.138e-6
LONE_QUESTION_S = 8.5e-6
BUS_FACTOR = 1 / 0.55

#: Processor time of a gateway before four partitions: a PAGE of 30, and a hit in a batch (docs/scale.md).
GATEWAY_QUESTION_S = 46e-6
GATEWAY_HIT_S = 0.73e-6
