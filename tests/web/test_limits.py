"""The token bucket: exact alone, exact together through Redis, open with a cap without it."""

import asyncio

from redis.asyncio import Redis

from web.limits import Limiter


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_burst_then_the_rate() -> None:
    clock = Seconds()
    limiter = Limiter(rate=10, burst=5, clock=clock)
    verdicts = [await limiter.check("key") for _ in range(7)]
    assert [v.allowed for v in verdicts] == [True] * 5 + [False] * 2
    assert [v.remaining for v in verdicts] == [4, 3, 2, 1, 0, 0, 0]
    clock.now += 0.1
    assert [(await limiter.check("key")).allowed for _ in range(2)] == [True, False]
    clock.now += 60
    assert (await limiter.check("key")).remaining == 4


async def test_keys_do_not_share_a_bucket() -> None:
    limiter = Limiter(rate=1, burst=1, clock=Seconds())
    assert (await limiter.check("a")).allowed
    assert (await limiter.check("b")).allowed
    refused = await limiter.check("a")
    assert not refused.allowed
    assert refused.headers() == {
        "RateLimit-Limit": "1",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1",
    }


async def test_without_redis_each_process_counts_alone() -> None:
    """F36: the API's limit fails open, with a cap."""
    clock = Seconds()
    gone = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    limiter = Limiter(rate=1, burst=3, redis=gone, clock=clock)
    assert [(await limiter.check("key")).allowed for _ in range(4)] == [True] * 3 + [False]
    assert not await limiter.alive()
    await limiter.close()


async def test_processes_share_one_bucket_through_redis(redis_url: str) -> None:
    # A rate so low that nothing comes back while the test runs.
    limiters = [Limiter(rate=0.001, burst=50, redis=Redis.from_url(redis_url)) for _ in range(4)]
    checks = [limiter.check("key") for _ in range(50) for limiter in limiters]
    verdicts = await asyncio.gather(*checks)
    assert sum(verdict.allowed for verdict in verdicts) == 50
    refused = next(verdict for verdict in verdicts if not verdict.allowed)
    assert (refused.remaining, refused.reset >= 1) == (0, True)
    assert (await limiters[0].check("another")).allowed
    for limiter in limiters:
        assert await limiter.alive()
        await limiter.close()


async def test_tokens_come_back_by_the_clock_of_redis(redis_url: str) -> None:
    limiter = Limiter(rate=50, burst=10, redis=Redis.from_url(redis_url))
    assert sum([(await limiter.check("key")).allowed for _ in range(11)]) >= 10
    await asyncio.sleep(0.2)
    assert (await limiter.check("key")).allowed
    await limiter.close()


async def test_an_outage_of_redis_in_the_middle_lets_requests_pass(redis_url: str) -> None:
    """F36."""
    clock = Seconds()
    redis = Redis.from_url(redis_url)
    limiter = Limiter(rate=1, burst=2, redis=redis, clock=clock)
    assert (await limiter.check("key")).allowed
    await redis.aclose()
    gone = Redis.from_url("redis://127.0.0.1:1/0")
    limiter._take = gone.register_script("return 1")
    assert [(await limiter.check("key")).allowed for _ in range(3)] == [True, True, False]
    clock.now += 10
    assert (await limiter.check("key")).allowed
    await limiter.close()


class Reset(Redis):
    """A client whose connection was reset under its hands: uvloop then says RuntimeError."""

    async def execute_command(self, *args: object, **options: object) -> object:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")


async def test_a_connection_that_was_reset_under_the_client_is_an_outage_of_redis() -> None:
    """F36."""
    limiter = Limiter(rate=1, burst=1, redis=Reset(), clock=Seconds())
    assert (await limiter.check("a")).allowed
    assert not (await limiter.check("a")).allowed
    assert not await limiter.alive()
