"""Round times and numbers for axes."""

from datetime import UTC, datetime

from online.cli.words import moment


def people_step(people: int) -> int:
    """Return a round step, four to ten of which reach `people`."""
    step = 1
    while people > 8 * step:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return step


_TICKS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(days * 24 * 3600 for days in (1, 2, 4, 7, 14)),
)
_TICKS_MONTHS = (1, 2, 3, 6, 12, 24, 36, 60, 120, 240, 600, 1200, 6000, 12000)


def time_ticks(first_ms: int, last_ms: int, limit: int) -> list[tuple[int, str]]:
    """Return at most `limit` round times in UTC, each with its label."""
    span_s = (last_ms - first_ms) // 1000
    for step_s in _TICKS_S:
        if span_s < limit * step_s:
            step_ms = step_s * 1000
            moments = range(-(-first_ms // step_ms) * step_ms, last_ms + 1, step_ms)
            return [(at_ms, _tick_label(moment(at_ms), step_s)) for at_ms in moments]
    first, last = moment(first_ms), moment(last_ms)
    months = range(first.year * 12 + first.month, last.year * 12 + last.month)
    for step in _TICKS_MONTHS:
        if len(chosen := range(-(-months.start // step) * step, months.stop, step)) <= limit:
            break
    starts = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in chosen]
    form = "%Y" if step >= 12 else "%b %Y"
    return [(round(start.timestamp()) * 1000, start.strftime(form)) for start in starts]


def _tick_label(at: datetime, step_s: int) -> str:
    if step_s >= 24 * 3600 or (at.hour, at.minute, at.second) == (0, 0, 0):
        return f"{at.day} {at:%b %Y}"
    return f"{at:%H:%M:%S}" if step_s < 60 else f"{at:%H:%M}"
