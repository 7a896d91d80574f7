"""Hostile values in every place of every operation: a clear refusal or an honest acceptance.

The places come from the served spec, so that a new route is tried by itself. More of what
Hypothesis makes up: `pytest tests/web/api/test_hostile_input.py --examples 100`.
"""

import json
import re
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.asgi import Answer, ask
from tests.web.api import hostile_values as values
from tests.web.api.hostile_requests import JSON, Operation, Place, check_named
from tests.web.api.hostile_world import World, hosted
from web.api.reference import all_routes
from web.deps import has_card_number


@pytest.fixture(scope="module")
def world(
    database_kind: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Return the shop that all of these requests go to."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    with hosted(database_kind, database_template, folder) as made:
        yield made


def drawn(examples: int) -> settings:
    """Return Hypothesis' settings: the same examples each time, and no clock in the way."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def examples(pytestconfig: pytest.Config) -> int:
    """Return how many examples Hypothesis makes up for each operation."""
    return int(pytestconfig.getoption("--examples") or 10)


def test_every_place_is_known(world: World) -> None:
    assert {one.id for one in world.operations} == {route.name for route in all_routes()}
    places = {(one.id, place.name) for one in world.operations for place in one.places}
    assert places >= {
        ("create_payment", "customer.email"),
        ("create_payment", "metadata.key"),
        ("create_payment", "Idempotency-Key"),
        ("create_webhook_endpoint", "event_types.0"),
        ("update_webhook_endpoint", "disabled"),
        ("list_payments", "expand[]"),
        ("get_event", "event_id"),
    }


@pytest.mark.timeout(600)
def test_no_value_in_any_place_is_too_much(world: World) -> None:
    """F57."""
    met: set[Place] = set()
    for operation in world.operations:
        world.run(_every_value(world, operation, met))
    assert world.sender.accepted > 300


async def _every_value(world: World, operation: Operation, met: set[Place]) -> None:
    unreadable = cycle(values.UNREADABLE.values())
    for place in operation.places:
        within_body = place.within == "body"
        corpus = [text.encode() for text in values.json_values().values()]
        # What has the same name has the same reader: the next ones get a fifth each.
        first, step = (len(met) % 5, 5) if place in met else (0, 1)
        met.add(place)
        for raw in (corpus if within_body else list(values.texts().values()))[first::step]:
            answer = await world.sender.put(operation, place, raw)
            if raw.isascii() or within_body:  # Bytes that are no text stand nowhere.
                check_named(place, answer)
        # The parser knows no fields: each place gets some of these, and they go round.
        some = 8 if within_body and not place.name.endswith(".0") else 0
        for raw in islice(unreadable, some):
            answer = await world.sender.put(operation, place, raw)
            assert answer.status == 400, (operation.id, place, raw[:50], answer)


def test_a_doubled_or_unknown_name_is_refused_and_named(world: World) -> None:
    """F57."""
    for operation in world.operations:
        world.run(_names(world, operation))


async def _names(world: World, operation: Operation) -> None:
    for place in operation.places:
        if place.within == "query" and not place.name.endswith("[]"):
            twice = f"{place.name}=1&{place.name}=1".encode()
            answer = await world.sender.send(operation, query=twice)
            assert (answer.status, answer.json()["param"]) == (400, place.name), answer
        if place.within == "body":
            last = place.name.rpartition(".")[2]
            twice = b'1, "%s": 1' % last.encode()
            if last != "0":
                answer = await world.sender.put(operation, place, twice)
                assert (answer.status, answer.json()["param"]) == (400, last), answer
    if operation.good is not None:
        for name in ("merchant_id", "livemode", "__proto__", "Amount", "status", ""):
            body = json.dumps(operation.good | {name: "x"}).encode()
            answer = await world.sender.send(operation, body=body)
            assert (answer.status, answer.json()["param"]) == (400, name), answer
    answer = await world.sender.send(operation, query=b"unknown=1")
    if any(place.within == "query" for place in operation.places):
        assert (answer.status, answer.json()["param"]) == (400, "unknown"), answer


def test_a_body_that_is_no_object_of_json_is_refused(world: World) -> None:
    """F57."""
    for operation in world.operations:
        if operation.good is not None:
            world.run(_whole_bodies(world, operation))


async def _whole_bodies(world: World, operation: Operation) -> None:
    good = json.dumps(operation.good).encode()
    for name, body in values.bodies(good).items():
        answer = await world.sender.send(operation, body=body)
        wanted = 413 if len(body) > 65_536 else 400
        assert answer.status == wanted, (operation.id, name, answer)
    for media, read in values.MEDIA:
        answer = await world.sender.send(operation, media=media)
        assert (answer.status == 415) is not read, (operation.id, media, answer)
    for length in values.LENGTHS:
        await world.sender.send(operation, media=[*JSON, (b"Content-Length", length)])


def test_no_header_that_is_read_is_too_much(world: World) -> None:
    """F57."""
    world.run(_headers(world))


async def _headers(world: World) -> None:
    # The wallet waits for its ledger, so it is asked for nothing but what it alone reads.
    money = [one for one in world.operations if "Money" in one.spec["tags"]]
    others = [one for one in world.operations if one not in money]
    for name, usual in values.READ_HEADERS.items():
        place = Place("header", name)
        taken = money if name == values.WAITED_FOR else others
        for number, raw in enumerate(values.texts().values()):
            value = usual.encode() + raw if number % 2 else raw
            if name != values.WAITED_FOR or not re.fullmatch(rb"latest|[0-9]{1,18}", value):
                await world.sender.put(taken[number % len(taken)], place, value)


@pytest.mark.timeout(3_600)
def test_nothing_that_hypothesis_makes_up_is_too_much(world: World, examples: int) -> None:
    """F57."""
    places = [(one, place) for one in world.operations for place in one.places]
    anything = st.text(st.characters()) | st.text("0123456789-+.eE_ ")
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats() | anything | st.sampled_from("eE1")
    )
    trees = st.recursive(
        scalars, lambda below: st.lists(below) | st.dictionaries(anything, below), max_leaves=20
    )

    @drawn(examples * len(world.operations))
    @given(st.sampled_from(places), trees, anything, st.binary(max_size=60), st.booleans())
    def sent(
        where: tuple[Operation, Place], tree: Any, text: str, raw: bytes, escaped: bool
    ) -> None:
        operation, place = where
        if place.within == "body":
            value = json.dumps(tree, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        else:
            value = raw if escaped else text.encode("utf-8", "surrogatepass")
        world.run(world.sender.put(operation, place, value))

    sent()


def test_text_that_is_accepted_comes_back_as_it_was(world: World, examples: int) -> None:
    """F57."""
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")

    def text(least: int, most: int) -> Any:
        return st.text(letters, min_size=least, max_size=most).filter(lambda t: not card(t))

    def card(text: str) -> bool:
        return has_card_number(text)

    @drawn(examples * 3)
    @given(st.dictionaries(text(1, 40), text(0, 500), max_size=50), text(0, 500), text(1, 200))
    def kept(metadata: dict[str, str], description: str, name: str) -> None:
        fields = {"metadata": metadata, "description": description}
        world.run(_kept(world, fields, name))

    kept()


async def _kept(world: World, fields: dict[str, Any], name: str) -> None:
    new = {"amount": 1200, "currency": "eur", "customer": {"name": name}, **fields}
    made = await world.api.post("/v1/payments", new)
    assert made.status_code == 201, made.text
    again = await world.api.get(f"/v1/payments/{made.json()['id']}")
    refund = {"payment": world.sender.shop.paid, "amount": 1, "metadata": fields["metadata"]}
    back = await world.api.post("/v1/refunds", refund)
    assert back.status_code == 201, back.text
    assert back.json()["metadata"] == fields["metadata"]
    for answer in (made, again):
        shown = answer.json()
        assert {key: shown[key] for key in fields} == fields
        assert shown["customer"]["name"] == name


def test_every_text_of_the_corpus_comes_back_as_it_was(world: World) -> None:
    """F57."""
    for told, text in values.TEXTS.items():
        if "\0" not in text and told != "card" and len(text) <= 500:
            fields = {"metadata": {(text or "empty")[:40]: text}, "description": text}
            world.run(_kept(world, fields, text[:200] or "empty"))


def test_the_shop_is_still_whole(world: World) -> None:
    """After all of this its lists can be read."""

    async def look(address: bytes) -> Answer:
        headers = [
            (b"Host", b"localhost"),
            (b"Authorization", f"Bearer {world.api.secret}".encode()),
        ]
        return await ask(world.sender.app, "GET", address, headers=headers)

    for path in (b"/v1/payments", b"/v1/refunds", b"/v1/events", b"/v1/ledger/entries"):
        answer = world.run(look(path + b"?limit=100"))
        assert answer.status == 200, answer
        assert answer.json()["data"]
