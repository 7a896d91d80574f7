"""The keys of a machine of its own are made once and kept to its user."""

from pathlib import Path

from app.cli import local_keys
from app.settings import from_environment


def test_keys_are_made_once_and_for_the_user_alone(tmp_path: Path) -> None:
    first = local_keys.fill_in({}, tmp_path / "keys")
    assert local_keys.fill_in({}, tmp_path / "keys") == first
    files = list((tmp_path / "keys").iterdir())
    assert len(files) == len(first)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_two_machines_have_different_keys(tmp_path: Path) -> None:
    one, two = (local_keys.fill_in({}, tmp_path / name) for name in ("one", "two"))
    assert not set(one.values()) & set(two.values())


def test_a_key_of_the_environment_is_neither_replaced_nor_made(tmp_path: Path) -> None:
    assert "PEPPER" not in local_keys.fill_in({"PEPPER": "mine"}, tmp_path)
    assert not (tmp_path / "pepper").exists()


def test_a_key_half_written_by_a_crash_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "pepper.new").write_text("ab")
    assert len(local_keys.fill_in({}, tmp_path)["PEPPER"]) > 40


def test_the_settings_accept_the_made_keys(tmp_path: Path) -> None:
    environment = {
        "DATABASE_URL": "sqlite+aiosqlite:///x.db",
        "REDIS_URL": "redis://127.0.0.1",
        "DATA_DIR": "x",
        "PUBLIC_URL": "http://localhost:8000",
    }
    settings = from_environment({**environment, **local_keys.fill_in({}, tmp_path)})
    assert settings.sealing_key_id == "local"
