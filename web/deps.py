"""What handlers read requests with: the runtime, and one strict reader of bodies and queries."""

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.types import Empty, Scope

from app.errors import FieldError, Invalid, NotFound, Problem, Refused
from app.ids import is_id
from app.logging import passes_luhn
from app.runtime import Runtime

T = TypeVar("T")

MAX_DEPTH = 32
MAX_FIELDS = 256
_TOO_DEEP = f"The body is nested deeper than {MAX_DEPTH} levels."
API_BODY_BYTES = 65_536
EVENT_BODY_BYTES = 262_144

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = re.compile(
    r"(?<!\d)(?:\d{13,19}|\d{4}([ -])(?:\d{4}\1){2}\d{1,7}|\d{4}([ -])\d{6}\2\d{5})(?!\d)",
    re.ASCII,
)
_CARD = re.compile(r"(?:4|5[0-8]|6|3[0-9]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720))\d+", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,18}")


class CardData(Invalid):
    """A card number stands in the request; the PSP's page or token is the only place for one."""

    code = "card_data_not_allowed"


class UnsupportedMedia(Problem):
    """The body is not JSON."""

    status = 415
    code = "unsupported_media_type"
    title = "The body must be JSON"


class TooLarge(Problem):
    """The body is larger than this address takes."""

    status = 413
    code = "request_too_large"
    title = "The request is too large"


class IntegerForm(Refused):
    """A whole number is written like `1.0` or `1e3`: right by JSON Schema, refused by us.

    Parsers disagree on such numbers, and money must read the same everywhere.
    """

    code = "integer_form"


def runtime(connection: Any) -> Runtime:
    """Return the process's runtime."""
    rt: Runtime = connection.app.state.rt
    return rt


def request_id(scope: Scope | Mapping[str, Any]) -> str:
    """Return the id that this request is logged, answered and audited under."""
    return str(scope["state"].get("request_id", ""))


def client_address(scope: Scope | Mapping[str, Any]) -> str | None:
    """Return the caller's address; forwarded headers of trusted proxies are already applied."""
    client = scope.get("client")
    return str(client[0]) if client else None


class ApiRequest(Request[Any, Any, Any]):
    """A request whose JSON body is read strictly into the struct that the handler declares.

    `sent` holds the fields as the client sent them, before defaults; the Idempotency-Key's
    fingerprint is made of them.
    """

    @property
    def sent(self) -> Any:
        """The validated fields, exactly as sent; an empty object when there was no body."""
        return self.scope["state"].get("sent", {})

    async def body(self) -> bytes:
        """Return the body; none at all is an empty object, so that its missing fields are named."""
        return await super().body() or b"{}"

    async def json(self) -> Any:
        """Read the body once. Raises Invalid, UnsupportedMedia."""
        if self._json is Empty:
            field = self.route_handler.parsed_data_field
            raw = await super().body()
            coding = self.headers.get("content-encoding", "identity").lower()
            if raw and (self.content_type[0].lower(), coding) != ("application/json", "identity"):
                raise UnsupportedMedia("Send application/json, without a Content-Encoding.")
            sent = read_json(raw) if raw else {}
            self._json = decode(sent, field.annotation) if field is not None else sent
            self.scope["state"]["sent"] = sent
        return self._json


def read_json(raw: bytes) -> Any:
    """Parse JSON text with all that the standard leaves open refused (trap 0.15).

    Raises Invalid for text that is not UTF-8, doubled names, NaN, NUL, half surrogates, more
    than 256 fields, deeper nesting than 32; CardData for a card number anywhere.
    """
    try:
        text = raw.decode()
        value = json.loads(text, object_pairs_hook=_Pairs(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Invalid("The body is not UTF-8.") from error
    except RecursionError as error:
        raise Invalid(_TOO_DEEP) from error
    except ValueError as error:
        raise Invalid("The body is not JSON.") from error
    # The walk costs more than the parser; most bodies show at a glance that they need none.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH or b"\\u" in raw or _DIGITS.search(text):
        _walk(value)
    return value


class _Pairs:
    """Makes objects, refusing doubled names and counting fields."""

    def __init__(self) -> None:
        self.fields = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.fields += len(pairs)
        if self.fields > MAX_FIELDS:
            raise Invalid(f"The body has more than {MAX_FIELDS} fields.")
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in made if names.count(name) > 1)
            raise _doubled(twice, "This field stands twice in one object.")
        return made


def _doubled(name: str, detail: str) -> Invalid:
    check_text(name)  # Only then may it be shown.
    shown = _shown(name)
    return Invalid(detail, param=shown, errors=[FieldError(shown, "duplicate", detail)])


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _walk(value: Any, path: str = "", depth: int = 1) -> None:
    if isinstance(value, str | int):
        check_text(str(value), path)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise Invalid(_TOO_DEEP, param=_shown(path))
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            below = f"{path}.{name}" if isinstance(value, dict) else f"{path}[{name}]"
            if isinstance(name, str):
                check_text(name, path)
            _walk(item, below.removeprefix("."), depth + 1)


def check_text(text: str, param: str = "") -> None:
    """Refuse, naming `param`, what one database keeps and another not. Raises Invalid, CardData."""
    named = _shown(param) or None
    if "\0" in text:
        raise Invalid("Text must not hold the NUL character.", param=named)
    if _SURROGATE.search(text):
        raise Invalid("Text must not hold half of a surrogate pair.", param=named)
    if has_card_number(text):
        detail = "A card number must never be sent here; use the PSP's page or its token."
        raise CardData(detail, param=named)


def has_card_number(text: str) -> bool:
    """Tell whether a card number stands in the text.

    Digits inside of a longer token of letters and digits (a hash, a UUID) are none.
    """
    for found in _DIGITS.finditer(text):
        number = re.sub(r"[ -]", "", found[0])
        around = _token_around(text, *found.span())
        if _CARD.fullmatch(number) and passes_luhn(number) and not any(c.isdigit() for c in around):
            return True
    return False


def _token_around(text: str, start: int, end: int) -> str:
    first, last = start, end
    while first > 0 and (text[first - 1].isalnum() or text[first - 1] in "-_"):
        first -= 1
    while last < len(text) and (text[last].isalnum() or text[last] in "-_"):
        last += 1
    return text[first:start] + text[end:last]


def decode(value: Any, kind: type[T]) -> T:
    """Convert decoded JSON strictly. Raises Invalid that names every bad field at once."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        found = list(_errors(value, kind, ""))
        if not found:
            raise Invalid(_plain(str(error))) from error
        only_form = all(one["code"] == IntegerForm.code for one in found)
        refusal: type[Problem] = IntegerForm if only_form else Invalid
        raise refusal(
            found[0]["detail"] if len(found) == 1 else f"{len(found)} fields are not valid.",
            param=found[0]["param"],
            errors=found,
        ) from error


def _errors(value: Any, kind: Any, path: str) -> Iterator[FieldError]:
    if not isinstance(value, dict):
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in value:
        if name not in fields:
            yield FieldError(_shown(path + name), "unknown", "There is no such field.")
    for name, field in fields.items():
        if name in value:
            yield from _field_errors(value[name], field.type, path + name)
        elif field.required:
            yield FieldError(path + name, "missing", "This field is needed.")


def _field_errors(value: Any, annotation: Any, path: str) -> Iterator[FieldError]:
    try:
        msgspec.convert(value, annotation, strict=True)
    except msgspec.ValidationError as error:
        struct = _struct_in(annotation)
        inner: list[FieldError] = []
        if struct is not None and isinstance(value, dict):
            inner = list(_errors(value, struct, f"{path}."))
        elif isinstance(value, dict):
            for name, item in value.items():
                inner += _entry_error({name: item}, annotation, f"{path}.{name}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                inner += _entry_error([item], annotation, f"{path}[{index}]")
        if isinstance(value, float) and _is_allowed_integer(value, annotation):
            detail = "Write whole numbers without a fraction or an exponent."
            inner = [FieldError(path, IntegerForm.code, detail)]
        yield from inner or [_field_error(path, str(error), annotation)]


def _is_allowed_integer(value: float, annotation: Any) -> bool:
    if not value.is_integer():
        return False
    try:
        msgspec.convert(int(value), annotation, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _entry_error(value: Any, annotation: Any, path: str) -> list[FieldError]:
    try:
        msgspec.convert(value, annotation, strict=True)
    except msgspec.ValidationError as error:
        return [_field_error(_shown(path), str(error), annotation)]
    return []


def _field_error(path: str, message: str, annotation: Any) -> FieldError:
    if "Invalid enum value" in message:
        return FieldError(path, "not_allowed", f"One of: {', '.join(_choices(annotation))}.")
    if "matching regex" in message or "Invalid RFC3339" in message or "timezone" in message:
        wanted = _description(annotation) or "It does not have the form that this field needs."
        return FieldError(path, "wrong_format", wanted)
    if "of length" in message:
        return FieldError(path, "wrong_length", _plain(message))
    if " >= " in message or " <= " in message or "out of range" in message:
        return FieldError(path, "out_of_range", _plain(message))
    return FieldError(path, "wrong_type", _plain(message))


def _plain(message: str) -> str:
    return message.partition(" - at ")[0].replace("`", "") + "."


def _shown(name: str) -> str:
    # A name of the client's own making: shown, but not at any length.
    return name if len(name) <= 100 else f"{name[:100]}…"


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return
    for part in get_args(annotation):
        yield from _parts(part)


def _struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    kinds = [p for p in _parts(annotation) if isinstance(p, type)]
    return next((p for p in kinds if get_origin(p) is None and issubclass(p, msgspec.Struct)), None)


def _choices(annotation: Any) -> list[str]:
    return [part for part in _parts(annotation) if isinstance(part, str)]


def _description(annotation: Any) -> str | None:
    metas = (part for part in _parts(annotation) if isinstance(part, msgspec.Meta))
    return next((meta.description for meta in metas if meta.description), None)


def read_query(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """Read the query string as strictly as a body: unknown and repeated parameters are refused.

    A field of a list type may be repeated. Raises Invalid, CardData.
    """
    raw: bytes = request.scope["query_string"]
    if not raw:
        return decode({}, kind)
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise Invalid("The query string is not readable.") from error
    plan = _plan(cast("Hashable", kind))
    values: dict[str, Any] = {}
    for name, text in pairs:
        check_text(name)
        check_text(text, name)
        wanted = plan.get(name)
        if wanted is list:
            values.setdefault(name, []).append(text)
            continue
        if name in values:
            raise _doubled(name, "This parameter stands twice.")
        values[name] = int(text) if wanted is int and _INTEGER.fullmatch(text) else text
    return decode(values, kind)


@cache
def _plan(kind: Hashable) -> dict[str, type]:
    def shape(annotation: Any) -> type:
        parts = list(_parts(annotation))
        if any(get_origin(part) is list for part in parts):
            return list
        return int if int in parts else str

    return {
        field.encode_name: shape(field.type) for field in msgspec.structs.fields(cast("Any", kind))
    }


def path_id(value: str, prefix: str) -> str:
    """Return an id from the path. Raises NotFound for what cannot be one: it does not exist."""
    if not is_id(value, prefix):
        raise NotFound
    return value


def utc(moment: datetime | None) -> datetime | None:
    """Return a moment in UTC; one at the edge of the calendar stays inside of it."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        # In UTC it would lie outside of the calendar; as a bound the calendar's edge is as good.
        return moment.replace(tzinfo=UTC)
