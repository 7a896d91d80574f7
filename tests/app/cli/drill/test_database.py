"""A drill says which database it ran on, and never its password."""

import pytest

from app.cli.drill.database import name_of, shown
from app.cli.processes import StartError

SECRET = "s3cret/word"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite+aiosqlite:///some/counterfoil.db", "SQLite"),
        ("postgresql+asyncpg://shop@db/payments", "PostgreSQL"),
    ],
)
def test_the_scheme_names_the_database(url: str, name: str) -> None:
    assert name_of(url) == name
    assert shown(url) == url


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        (
            "postgresql+asyncpg://shop:s3cret%2Fword@db/payments?ssl=disable",
            "postgresql+asyncpg://shop:PASSWORD@db/payments?ssl=disable",
        ),
        (
            "postgresql+asyncpg://db/payments?user=shop&password=s3cret%2Fword",
            "postgresql+asyncpg://db/payments?password=PASSWORD&user=shop",
        ),
    ],
)
def test_a_password_is_not_shown(url: str, safe: str) -> None:
    assert shown(url) == safe


def test_what_is_no_address_is_said_without_repeating_it() -> None:
    with pytest.raises(StartError) as caught:
        name_of(f"postgresql//shop:{SECRET}")
    assert SECRET not in str(caught.value)
