"""The OpenAPI document as the reference page shows it: rows of fields, and requests to copy."""

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

_LONGEST_PATTERN = 48
_NO_NUL = r"^[^\x00]*$"


class Type(msgspec.Struct, frozen=True, kw_only=True):
    """A type: its word, the shape it leads to, or the values that it may have."""

    word: str
    shape: str | None = None
    values: tuple[str, ...] = ()


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field or parameter. `place` is path, query or header; empty in a body."""

    name: str
    types: tuple[Type, ...]
    limits: tuple[str, ...]
    required: bool
    text: str
    place: str = ""


def fields(schema: dict[str, Any]) -> list[Field]:
    """Return the fields of an object's schema, in its order."""
    required = schema.get("required", [])
    return [
        _field(name, one, required=name in required)
        for name, one in schema.get("properties", {}).items()
    ]


def parameters(operation: dict[str, Any]) -> list[Field]:
    """Return the parameters of an operation."""
    return [
        _field(
            one["name"],
            one["schema"],
            required=one["required"],
            place=one["in"],
            text=one.get("description", ""),
        )
        for one in operation["parameters"]
    ]


def example(part: dict[str, Any]) -> str:
    """Return the example of a request's or an answer's content; empty when there is none."""
    content = part.get("content", {}).get("application/json", {})
    return written(content["example"]) if "example" in content else ""


def written(value: Any) -> str:
    """Return JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def curl(server: str, path: str, method: str, operation: dict[str, Any]) -> str:
    """Return the operation's example request as a command for a shell."""
    lines = ['-H "Authorization: Bearer $COUNTERFOIL_KEY"']
    for one in operation["parameters"]:
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", one["example"])
        if one["in"] == "header" and "example" in one:
            lines.append(f'-H "{one["name"]}: {one["example"]}"')
    if "requestBody" in operation:
        lines.append('-H "Content-Type: application/json"')
        lines.append(f"-d {shlex.quote(example(operation['requestBody']) or '{}')}")
    verb = "" if method == "get" else f"-X {method.upper()} "
    return " \\\n  ".join([f"curl {verb}{shlex.quote(server + path)}", *lines])


def _field(
    name: str, schema: dict[str, Any], *, required: bool, place: str = "", text: str = ""
) -> Field:
    options = _options(schema)
    texts = [text, schema.get("description", ""), *(o.get("description", "") for o in options)]
    limits = [limit for option in options for limit in _limits(option)]
    default = schema.get("default")
    if isinstance(default, str | int) and default != "":
        limits.append(f"default `{default if isinstance(default, str) else json.dumps(default)}`")
    return Field(
        name=name,
        types=tuple(kind for option in _all(schema) for kind in _types(option)),
        limits=tuple(dict.fromkeys(limits)),
        required=required,
        text=" ".join(dict.fromkeys(one.strip() for one in texts if one.strip())),
        place=place,
    )


def _all(schema: dict[str, Any]) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = schema.get("anyOf", [schema])
    return found


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in _all(schema) if one.get("type") != "null"]


def _types(schema: dict[str, Any]) -> Iterator[Type]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield Type(word=name, shape=name)
    elif "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        yield Type(word="one of", values=tuple(str(value) for value in values))
    elif schema.get("type") == "array":
        for one in _all(schema["items"]):
            for kind in _types(one):
                yield msgspec.structs.replace(kind, word=f"list of {kind.word}")
    else:
        yield Type(word=schema.get("type", "any"))


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    yield from _between(schema, "minimum", "maximum", "")
    yield from _between(schema, "minLength", "maxLength", " characters")
    yield from _between(schema, "minItems", "maxItems", " items")
    yield from _between(schema, "minProperties", "maxProperties", " entries")
    pattern = schema.get("pattern", "")
    if pattern and pattern != _NO_NUL and len(pattern) <= _LONGEST_PATTERN:
        yield f"`{pattern}`"


def _between(schema: dict[str, Any], low: str, high: str, unit: str) -> Iterator[str]:
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        yield f"{least:,} to {most:,}{unit}"
    elif most is not None:
        yield f"up to {most:,}{unit}"
    elif least is not None:
        yield f"at least {least:,}{unit}"
