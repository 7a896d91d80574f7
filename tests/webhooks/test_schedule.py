"""The schedule that the API promises."""

from app.webhooks import schedule

MINUTE, HOUR = 60, 3600
PROMISED = [
    5,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
]


def test_each_try_comes_as_long_after_the_one_before_as_promised() -> None:
    assert [schedule.next_delay(tries, 0.0) for tries in range(1, 10)] == PROMISED
    assert schedule.next_delay(10, 0.0) is None
    assert schedule.MOST_TRIES == 10


def test_jitter_only_delays_and_by_a_tenth_at_most() -> None:
    for tries, promised in enumerate(PROMISED, 1):
        delay = schedule.next_delay(tries, 0.999)
        assert delay is not None
        assert promised < delay < promised * 1.1
