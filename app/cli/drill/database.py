"""The database that a drill was told to use: what it is called, and its address without secrets."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.cli.processes import StartError

PLACEHOLDER = "PASSWORD"
_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}


def name_of(url: str) -> str:
    """Return what the database of an address is called, by its scheme. Raises StartError."""
    kind = _parsed(url).get_backend_name()
    return _NAMES.get(kind, kind)


def shown(url: str) -> str:
    """Return an address with a placeholder for each password in it. Raises StartError."""
    parsed = _parsed(url)
    if parsed.password is not None:
        parsed = parsed.set(password=PLACEHOLDER)
    query = {k: PLACEHOLDER if "password" in k.lower() else v for k, v in parsed.query.items()}
    return parsed.set(query=query).render_as_string(hide_password=False)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        # SQLAlchemy's own words may repeat the address, and the password in it.
        raise StartError("what was given as --database-url is no address.") from error
