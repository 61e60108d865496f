"""The soak in short: its load gets the right answers, and it would see what it looks for."""

from tests.soak import Long, Report, soak


def test_a_short_soak_has_right_answers_and_takes_a_snapshot():
    told = []
    report, settled_s = soak(3, hits_a_second=5_000, window_s=60, tell=lambda text, **_: told.append(text))
    assert report.wrong == []
    assert report.hits >= 2.5 * 5_000
    assert report.snapshots == 1
    assert report.states >= 3
    assert len(report.rss_kb) == len(report.files) == 3
    assert len(told) == 1
    assert "too short to say" in "\n".join(report.lines(settled_s))


def info(*, turn=0, turn_cpu=0, slices=0, wait=0):
    times = {"turn": turn, "turn_cpu": turn_cpu, "slices": slices, "wait": wait}
    return {f"longest_{name}_us": str(us) for name, us in times.items()}


def test_a_long_time_is_the_servers_or_the_kernels_or_that_of_what_it_waited_for():
    report = Report()
    report.longest_of(1, info(turn=9_999, turn_cpu=9_999), 0)
    report.longest_of(2, info(turn=12_000, turn_cpu=10_000), 2_000)
    report.longest_of(3, info(turn=12_000, turn_cpu=1_000), 11_000)
    report.longest_of(4, info(turn=12_000, turn_cpu=1_000, slices=15_000), 9_000)
    report.longest_of(5, info(wait=10_000), 20_000)
    assert report.own == [Long(2, "turn", 12_000, 10_000, 2_000)]
    assert [(long.second, long.event) for long in report.kernels] == [(3, "turn"), (5, "wait")]
    assert [(long.second, long.event) for long in report.waited] == [(4, "turn"), (4, "slices")]
    assert report.longest_us == {"turn": 12_000, "turn_cpu": 10_000, "slices": 15_000, "wait": 10_000}


def test_memory_that_grows_after_the_window_is_seen():
    assert Report(rss_kb=[*range(100), *[200] * 100]).growth(100) == 0
    assert round(Report(rss_kb=[0] * 100 + [200] * 90 + [203] * 10).growth(100), 9) == 1.5
    assert Report(rss_kb=[1, 2, 3]).growth(2) is None
