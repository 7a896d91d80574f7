"""A fuse blows after five failures in a row, and one look tells whether it stays blown."""

from app.fuse import Fuse


def _blown(fuse: Fuse, now: float) -> float:
    """Let it fail until it blows; return after how long it lets somebody look again."""
    fuse.failed(now, max)
    while fuse.lets(now):
        fuse.failed(now, max)
    ends = now
    while not fuse.lets(ends):
        ends += 1.0
    return ends - now


def test_a_few_failures_change_nothing() -> None:
    fuse = Fuse()
    for _ in range(20):
        for _ in range(4):
            fuse.failed(0.0, max)
        assert fuse.lets(0.0)
        fuse.worked()


def test_each_failed_look_doubles_the_wait_up_to_a_minute() -> None:
    fuse, now, waits = Fuse(), 100.0, []
    for _ in range(7):
        waits.append(_blown(fuse, now))
        now += waits[-1]
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_one_looks_and_the_others_wait_for_its_word() -> None:
    fuse = Fuse()
    ends = 10.0 + _blown(fuse, 10.0)  # At this moment somebody was let through.
    assert not fuse.lets(ends)
    fuse.worked()
    assert fuse.lets(ends)
    assert fuse.lets(ends)
    assert _blown(fuse, ends) == 5.0


def test_a_look_that_was_cut_off_is_made_again() -> None:
    fuse = Fuse()
    ends = 10.0 + _blown(fuse, 10.0)
    assert not fuse.lets(ends + 4.0)
    assert fuse.lets(ends + 5.0)
