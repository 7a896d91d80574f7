"""What nobody should send: as JSON text, as text in an address or a header, as a whole body."""

import gzip
import json

CARD = "4242424242424242"
TEXTS: dict[str, str] = {
    "empty": "",
    "blank": " \t",
    "NUL": "a\0b",
    "right to left": "\u202egnp.exe\u202c",
    "zero width": "\u200b\u200d\ufeff\u2060",
    "control": "".join(map(chr, [*range(1, 10), 11, 12, *range(14, 32), 0x7F, 0x85])),
    "line separators": "a\u2028b\u2029c",
    "marks": "Z" + "\u0351\u0303" * 40,
    "emoji": "👩‍👩‍👧🏳️‍🌈",
    "no characters": "\ufffe\uffff\U0010ffff",
    "two forms of one letter": "é e\u0301",
    "other digits": "١٢٣",
    "quote": "' OR '1'='1' --",
    "statement": "'; DROP TABLE payments; --",
    "wildcards": "%_\\%",
    "format": "%s%n{0}{0.__class__}",
    "template": "{{7*7}}${7*7}<%= 7*7 %>#{7*7}",
    "markup": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "new line": "a\r\nSet-Cookie: a=b\r\n\r\n<html>",
    "path": "../../../etc/passwd",
    "path in Windows": "..\\..\\nul",
    "address": "http://169.254.169.254/latest/meta-data/",
    "address of a file": "file:///etc/passwd",
    "script address": "javascript:alert(1)",
    "odd address": "https://[::1]:99999/\u00e4",
    "address without host": "https://",
    "odd port": "https://a.example:99999/",
    "word for nothing": "null",
    "word for a number": "NaN",
    "number": "1",
    "negative": "-1",
    "huge": "9" * 30,
    "endless": "9" * 5000,
    "fraction": "1.5",
    "grouped": "1_000",
    "long": "x" * 10_000,
    "long marks": "é" * 501,
    "id of another kind": "evt_" + "0" * 34,
    "id of nobody": "pay_" + "0" * 34,
    "id and a new line": "pay_" + "0" * 34 + "\n",
    "moment": "0001-01-01T00:00:00+14:00",
    "no moment": "2026-02-30T25:61:61Z",
    "pickle": "cos\nsystem\n(S'id'\ntR.",
    "card": f"card {CARD}",
}
HALVES = {"half a pair": '"a\\ud800b"', "other half": '"\\udc00"', "swapped": '"\\udc00\\ud800"'}
NUMBERS: dict[str, str] = {
    "nothing": "0",
    "minus nothing": "-0",
    "minus one": "-1",
    "2**31": str(2**31),
    "2**53 + 1": str(2**53 + 1),
    "2**63 - 1": str(2**63 - 1),
    "2**63": str(2**63),
    "-2**63 - 1": str(-(2**63) - 1),
    "2**64": str(2**64),
    "401 digits": "1" + "0" * 400,
    "fraction": "0.1",
    "whole fraction": "1.0",
    "exponent": "1e3",
    "large": "1e308",
    "small": "-1e-320",
    "card": CARD,
}
SHAPES: dict[str, str] = {
    "true": "true",
    "false": "false",
    "null": "null",
    "list": "[]",
    "object": "{}",
    "list of nulls": "[null, null]",
    "many": json.dumps(["x"] * 1_000),
    "operator": '{"$ne": null}',
    "prototype": '{"__proto__": {"a": 1}, "constructor": 1}',
    "half a pair as a name": '{"\\ud800": "x"}',
    "NUL as a name": '{"a\\u0000b": "x"}',
    "card as a name": json.dumps({CARD: "x"}),
    "31 levels": "[" * 30 + "]" * 30,
    "33 levels": "[" * 33 + "]" * 33,
}
# Every parser should say no before anybody looks at a field.
UNREADABLE: dict[str, bytes] = {
    "not a number": b"NaN",
    "infinity": b"-Infinity",
    "out of range": b"1e999",
    "5000 digits": b"1" + b"0" * 5000,
    "leading zero": b"012",
    "plus": b"+1",
    "hexadecimal": b"0x10",
    "no digits": b".5",
    "not UTF-8": b'"\xff\xfe"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "NUL in two bytes": b'"\xc0\x80"',
    "raw NUL": b'"a\x00b"',
    "raw new line": b'"a\nb"',
    "odd escape": b'"\\x41\\u12"',
    "single quotes": b"'x'",
    "open text": b'"x',
    "deep lists": b"[" * 20_000,
    "deep objects": b'{"a":' * 9_000,
    "deep and closed": b"[" * 20_000 + b"]" * 20_000,
    "nothing": b"",
    "name twice": b'{"a": 1, "a": 2}',
    "half a pair twice": b'{"\\ud800": 1, "\\ud800": 2}',
    "card twice": b'{"4242424242424242": 1, "4242424242424242": 2}',
}


def json_values() -> dict[str, str]:
    """Return JSON texts that stand for a value, each to be looked at with its field's rules."""
    texts = {f"text: {name}": json.dumps(text) for name, text in TEXTS.items()}
    raw = {
        f"raw text: {name}": json.dumps(text, ensure_ascii=False)
        for name, text in TEXTS.items()
        if not text.isascii()
    }
    halves = {f"text: {name}": text for name, text in HALVES.items()}
    numbers = {f"number: {name}": text for name, text in NUMBERS.items()}
    return {**texts, **raw, **halves, **numbers, **SHAPES}


def texts() -> dict[str, bytes]:
    """Return bytes for places that hold text without any form: addresses and headers."""
    found = {name: text.encode() for name, text in TEXTS.items()}
    broken = {"not UTF-8": b"\xff\xfe", "surrogate": b"\xed\xa0\x80", "long form": b"\xc0\xaf"}
    return {**found, **broken, **{f"number: {n}": t.encode() for n, t in NUMBERS.items()}}


def bodies(good: bytes) -> dict[str, bytes]:
    """Return whole bodies that are no object of JSON, or too much of one."""
    bomb = gzip.compress(b" " * 20_000_000 + good)
    return {
        "list": b"[" + good + b"]",
        "text": b'"x"',
        "number": b"1",
        "null": b"null",
        "true": b"true",
        "blank": b" ",
        "two": good + good,
        "cut off": good[:-1],
        "comment": b"/* */" + good,
        "byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "gzip": gzip.compress(good),
        "bomb": bomb,
        "form": b"amount=1&currency=eur",
        "many fields": json.dumps({f"f{n}": 1 for n in range(300)}).encode(),
        "big": b'{"x": "' + b"x" * 70_000 + b'"}',
        "blank and big": b" " * 70_000 + good,
    }


# Other headers of a body, with whether a good body is still read with them.
MEDIA: list[tuple[list[tuple[bytes, bytes]], bool]] = [
    ([(b"Content-Type", b"application/json; charset=utf-8")], True),
    ([(b"Content-Type", b"Application/JSON")], True),
    ([], False),
    *(
        ([(b"Content-Type", media)], False)
        for media in (
            b"",
            b"text/plain",
            b"text/json",
            b"application/xml",
            b"application/x-www-form-urlencoded",
            b"multipart/form-data; boundary=x",
            b"multipart/form-data",
            b"application/x-msgpack",
            b"application/merge-patch+json",
            b"application/json, application/json",
            b"application/json\xff",
            b"\xff\xfe",
            b";;=;",
            b"x" * 5_000,
        )
    ),
    *(
        ([(b"Content-Type", b"application/json"), (b"Content-Encoding", coding)], False)
        for coding in (b"gzip", b"br", b"deflate, gzip", b"\xff")
    ),
]
LENGTHS = [b"-1", b"0", b"x", b"9" * 400, b"\xb2", b"1_0", b"99999999"]
WAITED_FOR = "Ledger-Position-Min"
# Headers that the application reads although no operation's parameters name them.
READ_HEADERS = {
    WAITED_FOR: "latest",
    "Prefer": "wait=-",
    "Authorization": "",
    "Request-Id": "req",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "Cookie": "",
    "Accept": "*/*",
    "Host": "localhost",
    "Content-Length": "2",
}
