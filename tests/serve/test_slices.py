"""Long work in slices: everybody else has a turn in between, and jobs share theirs fairly."""

import itertools

import pytest
import trio
import trio.testing

from online.serve.slices import BUDGET_S, Slices


class Clock:
    """A clock on which each piece of a job takes a tenth of the budget."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def job(clock, n_pieces, done, name="job"):
    for _ in range(n_pieces):
        clock.now_s += BUDGET_S / 10
        done.append(name)
        yield


def run(main):
    """Run `main(slices, clock)` beside the task of slices."""

    async def both():
        clock = Clock()
        slices = Slices(clock=clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slices.run)
            await trio.testing.wait_all_tasks_blocked()
            await main(slices, clock)
            nursery.cancel_scope.cancel()

    trio.run(both)


def test_a_long_job_takes_turns_of_the_budget():
    async def main(slices, clock):
        done = []
        await slices.finish("job", job(clock, 100, done))
        assert len(done) == 100
        assert 10 <= slices.turns <= 11
        assert len(slices) == 0

    run(main)


def test_others_have_a_turn_between_slices():
    async def main(slices, clock):
        seen = []
        done = []

        async def other():
            while len(done) < 100:
                seen.append(len(done))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await slices.finish("job", job(clock, 100, done))
        # Trio runs both tasks in each of its rounds, in any order: so at most two turns lie between two looks.
        assert max(after - before for before, after in itertools.pairwise(seen)) <= 22

    run(main)


def test_jobs_share_a_turn_in_rotation():
    async def main(slices, clock):
        done = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slices.finish, "job", job(clock, 50, done, "long"))
            nursery.start_soon(slices.finish, "job", job(clock, 5, done, "short"))
        assert "short" not in done[20:]
        assert len(done) == 55

    run(main)


def test_a_job_that_fails_fails_who_waits_for_it_alone():
    async def main(slices, clock):
        def failing():
            yield
            raise ZeroDivisionError

        done = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slices.finish, "job", job(clock, 30, done))
            with pytest.raises(ZeroDivisionError):
                await slices.finish("job", failing())
        assert len(done) == 30

    run(main)


def test_a_job_that_nobody_waits_for_any_more_ends():
    async def main(slices, clock):
        done = []
        with trio.move_on_after(0) as scope:
            scope.cancel()
            await slices.finish("job", job(clock, 10_000, done))
        await trio.testing.wait_all_tasks_blocked()
        assert len(done) < 10_000
        assert len(slices) == 0

    run(main)


def test_without_jobs_it_rests():
    async def main(slices, clock):
        done = []
        await slices.finish("job", job(clock, 1, done))
        turns = slices.turns
        await trio.testing.wait_all_tasks_blocked()
        await slices.finish("job", job(clock, 1, done))
        assert slices.turns <= turns + 2

    run(main)
