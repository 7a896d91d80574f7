"""A slow endpoint holds up its own events only."""

import asyncio

import pytest

from app.lanes import WIDTH, LaneFull, Lanes


async def _occupy(lanes: Lanes, key: str, until: asyncio.Event, took: float) -> None:
    async with lanes.enter(key, "holder") as lane:
        await until.wait()
        lane.took(took)


async def test_a_full_lane_turns_away_and_another_one_does_not() -> None:
    lanes, until = Lanes(), asyncio.Event()
    holders = [asyncio.create_task(_occupy(lanes, "we_1", until, 15)) for _ in range(WIDTH)]
    await asyncio.sleep(0)
    with pytest.raises(LaneFull):
        async with lanes.enter("we_1", "late"):
            pytest.fail("a fifth request ran")
    async with lanes.enter("we_2", "other"):
        pass
    until.set()
    await asyncio.gather(*holders)
    async with lanes.enter("we_1", "late"):
        pass


async def test_at_a_fast_endpoint_one_waits_for_its_turn() -> None:
    lanes, running, most = Lanes(), 0, 0

    async def quick(number: int) -> None:
        nonlocal running, most
        async with lanes.enter("we_1", str(number)) as lane:
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.005)
            running -= 1
            lane.took(0.005)

    await asyncio.gather(*(quick(number) for number in range(40)))
    assert most == WIDTH


async def test_a_long_backlog_is_spread_and_nobody_waits_longer_than_a_minute() -> None:
    lanes, until = Lanes(), asyncio.Event()
    first = asyncio.create_task(_occupy(lanes, "we_1", until, 15))
    holders = [
        asyncio.create_task(_occupy(lanes, "we_1", asyncio.Event(), 15)) for _ in range(WIDTH - 1)
    ]
    await asyncio.sleep(0)
    until.set()
    await first
    holders.append(asyncio.create_task(_occupy(lanes, "we_1", asyncio.Event(), 15)))
    await asyncio.sleep(0)
    waits = []
    for number in range(200):
        with pytest.raises(LaneFull) as full:
            async with lanes.enter("we_1", str(number)):
                pytest.fail("the lane is full")
        waits.append(full.value.seconds)
    assert waits == sorted(waits)
    assert waits[0] > 1
    assert waits[-1] == 60
    for holder in holders:
        holder.cancel()
    await asyncio.gather(*holders, return_exceptions=True)


async def test_a_request_that_was_cut_gives_its_place_back() -> None:
    lanes = Lanes()
    tasks = [asyncio.create_task(_occupy(lanes, "we_1", asyncio.Event(), 1)) for _ in range(WIDTH)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with lanes.enter("we_1", "next"):
        pass
    assert lanes._lanes == {}
