"""The house holds its own rules: sizes, kinds of file, and who may reach the outside world."""

import ast
import inspect
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import pytest

from app.__main__ import ROOT
from app.errors import Problem

FUNCTION_LIMIT, FILE_LIMIT, TEMPLATE_LIMIT = 70, 400, 200
TOP_LEVEL = {
    *{"app", "web", "workers", "migrations", "e2e", "tests"},
    *{"pyproject.toml", "requirements.lock", "Procfile", "README.md", "LICENSE"},
}
FEATURES = {
    *{"accounts", "merchants", "payments", "ledger", "inbox", "webhooks", "janitor"},
    *{"timeline", "deadletters", "verification", "audit", "risk", "reviews", "desk"},
}
# Only these may be more than pure values: they take a session or a runtime.
FEATURE_KINDS = {"models", "operations", "processing", "queries", "schemas", "__init__"}
# Operations, processing and queries that are too long for one file are split by what they do.
# A new name here is a decision: every other file of a feature is pure, values in and values out.
SPLIT_OFF = {
    *{"app/inbox/refunding.py", "app/ledger/writer.py", "app/ledger/rows.py"},
    *{"app/payments/accepting.py", "app/payments/attempts.py", "app/payments/calls.py"},
    *{"app/payments/change.py", "app/payments/checking.py", "app/payments/reviewing.py"},
    *{
        "app/payments/refunding.py",
        "app/payments/resolving.py",
        "app/payments/settling.py",
        "app/payments/suspense.py",
        "app/payments/volume.py",
    },
    *{"app/verification/health.py", "app/verification/rule.py", "app/verification/tenants.py"},
    *{"app/webhooks/bodies.py", "app/webhooks/tries.py"},
}
# The shells' entry points read the environment once and hand it to app.settings.
READ_ENVIRONMENT = {"migrations/env.py", "app/__main__.py"}
MAY_BE_EMPTY = "__init__.py"
# A feature that must read a clock or a random source gets it through Runtime.
IMPURE_CALLS = {
    *{"datetime.now", "datetime.utcnow", "datetime.today", "date.today"},
    *{"time.time", "time.time_ns", "uuid.uuid1", "uuid.uuid4", "os.urandom"},
    *{"random.random", "random.randint", "random.choice", "random.uniform"},
    *{"secrets.token_bytes", "secrets.token_hex", "secrets.token_urlsafe", "secrets.choice"},
    *{"secrets.randbelow", "secrets.randbits"},
}
# Ids has the system's random source as a default, which a seed replaces.
MAY_BE_IMPURE = ("app/runtime.py", "app/ids.py", "app/cli/")


def tracked(pattern: str) -> list[Path]:
    """Return the project's own files of a kind: what git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", pattern]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in output.split("\0") if name and (ROOT / name).exists()]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def application_files() -> list[Path]:
    return [path for path in tracked("*.py") if name_of(path).startswith("app/")]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


def impure_calls(tree: ast.Module) -> set[str]:
    """Return the clock and random reads of a module, however they were imported."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    found = set()
    for node in ast.walk(tree):
        # Also a bare mention counts: `default_factory=uuid4` calls it as well.
        if isinstance(node, ast.Attribute | ast.Name):
            first, _, rest = dotted(node).partition(".")
            whole = ".".join(filter(None, (names.get(first, first), rest)))
            found |= {call for call in IMPURE_CALLS if whole == call or whole.endswith(f".{call}")}
    return found


def offences(paths: list[Path], check: Callable[[Path], object]) -> dict[str, object]:
    return {name_of(path): found for path in paths if (found := check(path))}


def test_nothing_new_lies_at_the_top() -> None:
    entries = {name_of(path).partition("/")[0] for path in tracked("*")}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL


def test_functions_are_short() -> None:
    def too_long(path: Path) -> list[str]:
        functions = [
            node
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
        return [f"{name}: {lines}" for name, lines in lengths.items() if lines > FUNCTION_LIMIT]

    # A migration is a list of tables that is written once and read from its top to its end.
    sources = [path for path in tracked("*.py") if "migrations/versions" not in name_of(path)]
    assert offences(sources, too_long) == {}


@pytest.mark.parametrize(
    ("pattern", "limit"), [("*.py", FILE_LIMIT), ("web/*.html", TEMPLATE_LIMIT)]
)
def test_files_are_short(pattern: str, limit: int) -> None:
    def too_long(path: Path) -> int:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        return lines if lines > limit else 0

    files = [path for path in tracked(pattern) if "migrations/versions" not in name_of(path)]
    assert files
    assert offences(files, too_long) == {}


def test_every_module_says_in_one_sentence_what_it_is() -> None:
    def wrong(path: Path) -> str | None:
        text = path.read_text(encoding="utf-8")
        if path.name == MAY_BE_EMPTY and not text.strip():
            return None
        docstring = ast.get_docstring(ast.parse(text)) or ""
        first = docstring.split("\n\n")[0]
        return None if re.search(r"[.?!]$", first) else first or "no docstring"

    places = ("app/", "web/", "workers/", "migrations/env.py")
    sources = [path for path in tracked("*.py") if name_of(path).startswith(places)]
    assert offences(sources, wrong) == {}


def test_features_hold_only_the_named_kinds_of_file() -> None:
    heavy = {"sqlalchemy", "httpx2", "aiohttp", "app.db", "app.runtime", "app.queue"}

    def impure(path: Path) -> set[str]:
        if path.stem in FEATURE_KINDS or name_of(path) in SPLIT_OFF:
            return set()
        names = set(imported(parsed(path)))
        return heavy & (names | {name.partition(".")[0] for name in names})

    files = [p for p in application_files() if set(p.relative_to(ROOT).parts[1:-1]) & FEATURES]
    assert files
    assert offences(files, impure) == {}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("stripe", ("app/psp/stripe/",)),
        ("arq", ("app/queue.py", "workers/")),
        ("redis", ("app/queue.py", "web/limits.py", "workers/", "app/cli/")),
        ("litestar", ("web/",)),
        ("jinja2", ("web/",)),
        ("alembic", ("migrations/", "app/cli/migrate.py")),
    ],
)
def test_a_library_is_imported_at_home_only(library: str, homes: tuple[str, ...]) -> None:
    def abroad(path: Path) -> bool:
        names = {name.partition(".")[0] for name in imported(parsed(path))}
        return library in names and not name_of(path).startswith(homes)

    places = ("app/", "web/", "workers/", "migrations/")
    sources = [path for path in tracked("*.py") if name_of(path).startswith(places)]
    assert offences(sources, abroad) == {}


def test_the_application_reads_no_clock_and_no_random_source() -> None:
    files = [p for p in application_files() if not name_of(p).startswith(MAY_BE_IMPURE)]
    assert offences(files, lambda path: impure_calls(parsed(path))) == {}


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.now()",
        "from uuid import uuid4\nfield(default_factory=uuid4)",
        "from time import time as t\nt()",
        "import secrets\nsecrets.token_hex(3)",
    ],
)
def test_reading_a_clock_or_a_random_source_is_noticed(source: str) -> None:
    assert impure_calls(ast.parse(source))


def test_the_application_does_not_read_the_environment() -> None:
    def reads(path: Path) -> list[str]:
        tree = parsed(path)
        return [
            dotted(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv"}
        ] + [name for name in imported(tree) if name in {"os.environ", "os.getenv"}]

    files = [
        path
        for path in application_files()
        if not name_of(path).startswith("app/cli/") and name_of(path) not in READ_ENVIRONMENT
    ]
    assert offences(files, reads) == {}


def test_each_code_belongs_to_a_class_that_the_reference_can_list() -> None:
    """A code that a call chooses would stand in no spec; a kind's own code says too little."""
    kinds = {"Conflict", "Stale", "Refused", "Declined"}

    def loose(path: Path) -> list[str]:
        found = []
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = dotted(node.exc.func).rpartition(".")[2]
                coded = any(keyword.arg == "code" for keyword in node.exc.keywords)
                if coded or name in kinds:
                    found.append(f"{node.lineno}: {name}")
        return found

    assert "code" not in inspect.signature(Problem.__init__).parameters
    places = ("app/", "web/")
    sources = [path for path in tracked("*.py") if name_of(path).startswith(places)]
    sources = [path for path in sources if not name_of(path).startswith("web/sandbox_psp/")]
    assert offences(sources, loose) == {}


def test_the_application_has_no_assert_statement() -> None:
    def asserts(path: Path) -> bool:
        return any(isinstance(node, ast.Assert) for node in ast.walk(parsed(path)))

    places = ("app/", "web/", "workers/")
    sources = [path for path in tracked("*.py") if name_of(path).startswith(places)]
    assert offences(sources, asserts) == {}


def test_silenced_checks_say_why() -> None:
    silent = re.compile(r"#\s*(noqa(:\s*[A-Z0-9, ]+)?|type:\s*ignore(\[[^\]]*\])?)\s*$")

    def unexplained(path: Path) -> list[str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if silent.search(line)]

    assert offences(tracked("*.py"), unexplained) == {}


def test_the_command_starts_shells_and_imports_none() -> None:
    def imports(path: Path) -> set[str]:
        return {
            name for name in imported(parsed(path)) if name.partition(".")[0] in {"web", "workers"}
        }

    files = [path for path in application_files() if name_of(path).startswith("app/cli/")]
    assert offences(files, imports) == {}


def test_templates_hold_no_inline_code_and_trust_no_text() -> None:
    forbidden = {
        "an unescaped value": r"\|\s*safe\b|autoescape\s+false",
        "an inline script": r"<script(?![^>]*\bsrc=)[^>]*>",
        "an inline style": r"<style\b|\sstyle=",
        "an inline handler": r"\son[a-z]+\s*=\s*[\"']",
        "a javascript: address": r"[\"']\s*javascript:",
        "a foreign host": r"(?:src|href)=[\"'](?:https?:)?//",
    }

    def offence(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        return [
            what for what, pattern in forbidden.items() if re.search(pattern, text, re.IGNORECASE)
        ]

    templates = tracked("web/*.html")
    assert templates
    assert offences(templates, offence) == {}


def test_every_template_compiles() -> None:
    # Extensions and filters are the renderer's business; here the syntax alone counts.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)

    def broken(path: Path) -> str | None:
        try:
            environment.parse(path.read_text(encoding="utf-8"), filename=name_of(path))
        except jinja2.TemplateSyntaxError as error:
            return f"{error.lineno}: {error.message}"
        return None

    assert offences(tracked("web/*.html"), broken) == {}


def test_the_project_names_no_machine() -> None:
    words = re.compile(r"(?<!\w)/(work|root)/|pypi\.org|pythonhosted|file:///(opt|srv)")

    def named(path: Path) -> list[str]:
        if path.name == "test_architecture.py" or not path.is_file():
            return []
        try:
            return [found[0] for found in words.finditer(path.read_text(encoding="utf-8"))]
        except UnicodeDecodeError:
            return []

    assert offences(tracked("*"), named) == {}


def test_the_lock_pins_everything_by_hash_in_two_sections() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    runtime, mark, development = text.partition("# --- development ---\n")
    assert mark
    for section, known, unknown in (
        (runtime, "litestar==", "pytest=="),
        (development, "pytest==", "litestar=="),
    ):
        packages = re.findall(
            r"^\S+==\S+.*\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+", section, re.MULTILINE
        )
        assert len(packages) == len(re.findall(r"^[a-zA-Z]", section, re.MULTILINE))
        assert known in section
        assert unknown not in section
