"""The table of all targets, which the modules that have some fill. `targets` imports them all."""

TARGETS = {}


def target(seeds):
    """A target; `seeds` makes the inputs that a fuzzer begins with."""

    def registered(run):
        run.seeds = seeds
        TARGETS[run.__name__] = run
        return run

    return registered
