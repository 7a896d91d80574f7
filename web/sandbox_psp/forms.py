"""Nested form parameters: from `a[b][0]=c` to a tree, and from the tree to checked values."""

import re
from typing import Any
from urllib.parse import parse_qsl

from web.sandbox_psp.errors import ApiError

Tree = dict[str, Any]

_NAME = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PART = re.compile(r"\[([^\[\]]*)\]")
_INTEGER = re.compile(r"^-?[0-9]{1,15}$")
_MAX_DEPTH = 8
_MAX_FIELDS = 1000


def parse(text: str) -> Tree:
    """Return the tree that form-encoded text describes; lists come from `[]` and `[0]`, `[1]`, ….

    Raises ApiError 400 for names that are not well formed or that contradict one another.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except (ValueError, UnicodeDecodeError) as error:
        raise ApiError(400, "The request's parameters could not be read.") from error
    tree: Tree = {}
    for name, value in pairs:
        match = _NAME.match(name)
        if match is None or "\0" in name or "\0" in value:
            raise ApiError(400, f"Invalid parameter name or value: {name[:80]!r}")
        parts = [match.group(1), *_PART.findall(match.group(2))]
        if len(parts) > _MAX_DEPTH:
            raise ApiError(400, f"Parameter is nested too deeply: {parts[0][:80]!r}")
        _put(tree, parts, value)
    return {name: _lists(branch) for name, branch in tree.items()}


def _put(tree: Tree, parts: list[str], value: str) -> None:
    branch = tree
    for index, part in enumerate(parts):
        name = part or str(len(branch))
        if index == len(parts) - 1:
            if isinstance(branch.get(name), dict):
                raise ApiError(400, f"Invalid parameter: {parts[0][:80]!r}", param=parts[0])
            branch[name] = value
            return
        branch = branch.setdefault(name, {})
        if not isinstance(branch, dict):
            raise ApiError(400, f"Invalid parameter: {parts[0][:80]!r}", param=parts[0])


def _lists(branch: object) -> object:
    if not isinstance(branch, dict):
        return branch
    if branch and all(name.isdecimal() for name in branch):
        return [_lists(branch[name]) for name in sorted(branch, key=int)]
    return {name: _lists(leaf) for name, leaf in branch.items()}


class Params:
    """Read checked values out of a tree of parameters; each refusal names its parameter."""

    def __init__(self, tree: Tree, prefix: str = "") -> None:
        self._tree = tree
        self._prefix = prefix

    def name(self, name: str) -> str:
        """Return the full name of a parameter as the caller wrote it."""
        return f"{self._prefix}[{name}]" if self._prefix else name

    def only(self, allowed: str) -> None:
        """Refuse every parameter that is not among the allowed names, given as words."""
        for unknown in self._tree.keys() - set(allowed.split()):
            name = self.name(unknown)
            raise ApiError(
                400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name
            )

    def names(self) -> list[str]:
        """Return the names that were given."""
        return list(self._tree)

    def has(self, name: str) -> bool:
        """Return whether the parameter was given and is not empty."""
        return self._tree.get(name) not in (None, "")

    def text(self, name: str, *, limit: int = 5000) -> str | None:
        """Return a text, or None when it is absent or empty."""
        value = self._tree.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > limit:
            raise ApiError(400, f"Invalid string: {self.name(name)}", param=self.name(name))
        return value

    def need(self, name: str, *, limit: int = 5000) -> str:
        """Return a text that must be there."""
        value = self.text(name, limit=limit)
        if value is None:
            full = self.name(name)
            raise ApiError(
                400, f"Missing required param: {full}.", code="parameter_missing", param=full
            )
        return value

    def integer(self, name: str, *, low: int = 0, high: int = 10**12 - 1) -> int | None:
        """Return an integer between low and high, or None when it is absent."""
        text = self.text(name)
        if text is None:
            return None
        full = self.name(name)
        if not _INTEGER.match(text):
            raise ApiError(
                400, f"Invalid integer: {text[:40]}", code="parameter_invalid_integer", param=full
            )
        value = int(text)
        if not low <= value <= high:
            raise ApiError(
                400,
                f"Invalid integer: {full} must be between {low} and {high}",
                code="parameter_invalid_integer",
                param=full,
            )
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean; absent is false."""
        return self.choice(name, "true false 1 0", default="false") in {"true", "1"}

    def choice(self, name: str, allowed: str, *, default: str | None = None) -> str | None:
        """Return one of the allowed words."""
        value = self.text(name)
        if value is None:
            return default
        if value not in allowed.split():
            full = self.name(name)
            wanted = ", ".join(allowed.split())
            raise ApiError(400, f"Invalid {full}: must be one of {wanted}", param=full)
        return value

    def branch(self, name: str) -> "Params":
        """Return the parameters below a name; none when it is absent."""
        value = self._tree.get(name)
        if value is None or value == "":
            return Params({}, self.name(name))
        if not isinstance(value, dict):
            raise ApiError(400, f"Invalid object: {self.name(name)}", param=self.name(name))
        return Params(value, self.name(name))

    def items(self, name: str) -> list[Any]:
        """Return a list; none when it is absent."""
        value = self._tree.get(name)
        if value is None or value == "":
            return []
        if not isinstance(value, list):
            raise ApiError(400, f"Invalid array: {self.name(name)}", param=self.name(name))
        return value

    def metadata(self, name: str = "metadata") -> dict[str, str | None]:
        """Return metadata: at most 50 keys of 40 characters with 500 each; empty means unset."""
        found: dict[str, str | None] = {}
        branch = self.branch(name)
        for key in branch.names():
            if len(key) > 40 or len(branch.names()) > 50:
                raise ApiError(400, "Metadata keys can be 40 characters, at most 50.", param=name)
            found[key] = branch.text(key, limit=500)
        return found
