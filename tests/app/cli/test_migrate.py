"""`counterfoil migrate` and `verify-ledger` on an address that leads nowhere: one sentence."""

import pytest

from app.cli.main import main


@pytest.mark.parametrize("command", ["migrate", "verify-ledger"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://nobody@127.0.0.1:1/nothing",
        "postgresql://nobody@127.0.0.1:1/nothing",
        "nonsense",
        "sqlite+aiosqlite:////nowhere/at/all/counterfoil.db",
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(
    command: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert main([command]) in {1, 2}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("counterfoil: the ")
    assert said.err.count("\n") == 1
