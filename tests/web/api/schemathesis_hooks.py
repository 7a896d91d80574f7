"""What the tool that believes the spec cannot know: whose ids there are, and what a key is for."""

import json
import os
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis

KNOWN = "COUNTERFOIL_TEST_KNOWN"  # Names the file of what there is, by operation and place.
_NUMBERS = count(1)
_KEPT = 5  # One key of so many stays as it was made up, so that odd and used ones are sent, too.


@cache
def _known() -> dict[str, dict[str, list[Any]]]:
    known: dict[str, dict[str, list[Any]]] = json.loads(Path(os.environ[KNOWN]).read_text())
    return known


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Put what there is into the examples, whose ids belong to nobody."""
    known = _known()
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            there = known[operation["operationId"]]
            for one in operation.get("parameters", []):
                if values := there.get(f"path.{one['name']}"):
                    one["example"] = values[0]
            content = operation.get("requestBody", {}).get("content", {})
            example = content.get("application/json", {}).get("example", {})
            example |= {
                name: there[f"body.{name}"][0] for name in example if f"body.{name}" in there
            }


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Give most of the valid requests a key of their own and what is not used up.

    Else they would hear of nothing but the key and the state. Histories go on with their ids.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    number, phase = next(_NUMBERS), case.meta.phase.name.value
    if phase in {"fuzzing", "stateful"} and number % _KEPT == 0:
        return
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"fresh-{number}"
    if "starting_after" in (case.query or {}):
        case.query.pop("ending_before", None)
    if phase != "stateful":
        _use_known(case, number)


def _use_known(case: Any, number: int) -> None:
    there = _known()[case.operation.definition.raw["operationId"]]
    for name, value in (case.path_parameters or {}).items():
        if value in (values := there.get(f"path.{name}", [])):
            case.path_parameters[name] = values[number % len(values)]
    if isinstance(case.body, dict):
        for name in case.body.keys() & {place.removeprefix("body.") for place in there}:
            values = there[f"body.{name}"]
            case.body[name] = values[number % len(values)]
        if case.meta.phase.name.value == "fuzzing":
            case.body.pop("refund_amount_available", None)  # A guess is as good as always stale.
