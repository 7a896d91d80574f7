"""A fuse blows after five failures in a row, and one look tells whether it stays blown."""

from app.fuse import Fuse


def _blown(fuse: Fuse, now: float) -> float:
    """Let it fail until it blows; return after how long it lets somebody look again."""
    while (era := fuse.enter(now)) is not None:
        fuse.failed(era, now, max)
    ends = now
    while not _lets(fuse, ends):
        ends += 1.0
    return ends - now


def _lets(fuse: Fuse, now: float) -> bool:
    """Tell whether somebody would be let through, without being him."""
    return now >= fuse._until


def test_a_few_failures_change_nothing() -> None:
    fuse = Fuse()
    for _ in range(20):
        for _ in range(4):
            fuse.failed(fuse.enter(0.0) or 0, 0.0, max)
        assert fuse.enter(0.0) is not None
        fuse.worked()


def test_each_failed_look_doubles_the_wait_up_to_a_minute() -> None:
    fuse, now, waits = Fuse(), 100.0, []
    for _ in range(7):
        waits.append(_blown(fuse, now))
        now += waits[-1]
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_calls_that_fail_together_are_one_reason_to_wait_and_not_many() -> None:
    """A short hiccup that many calls ran into costs the first, short wait."""
    fuse = Fuse()
    begun = [fuse.enter(10.0) for _ in range(32)]
    for era in begun:
        assert era is not None
        fuse.failed(era, 11.0, max)
    assert fuse.enter(15.5) is None
    assert fuse.enter(16.0) is not None


def test_one_looks_and_the_others_wait_for_its_word() -> None:
    fuse = Fuse()
    ends = 10.0 + _blown(fuse, 10.0)
    assert fuse.enter(ends) is not None
    assert fuse.enter(ends) is None
    fuse.worked()
    assert fuse.enter(ends) is not None
    assert fuse.enter(ends) is not None
    assert _blown(fuse, ends) == 5.0


def test_a_look_that_was_cut_off_is_made_again() -> None:
    fuse = Fuse()
    ends = 10.0 + _blown(fuse, 10.0)
    assert fuse.enter(ends) is not None
    assert fuse.enter(ends + 4.0) is None
    assert fuse.enter(ends + 5.0) is not None
