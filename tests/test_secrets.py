import secrets as random

import pytest

from app.secrets import SealBroken, Sealer


def _sealer(**keys: bytes) -> Sealer:
    return Sealer(keys, next(iter(keys)), b"p" * 32, random.token_bytes)


def test_a_sealed_value_opens_at_its_place_only() -> None:
    sealer = _sealer(a=b"a" * 32)
    sealed = sealer.seal_text("seed", "users:1:totp")
    assert sealed.startswith("v1.a.")
    assert "seed" not in sealed
    assert sealer.open_text(sealed, "users:1:totp") == "seed"
    with pytest.raises(SealBroken):
        sealer.open_text(sealed, "users:2:totp")


def test_an_old_key_still_opens_and_a_lost_one_is_an_error() -> None:
    sealed = _sealer(a=b"a" * 32).seal(b"x", "t:1:c")
    assert _sealer(b=b"b" * 32, a=b"a" * 32).open(sealed, "t:1:c") == b"x"
    with pytest.raises(SealBroken):
        _sealer(b=b"b" * 32).open(sealed, "t:1:c")


@pytest.mark.parametrize("value", ["", "v1.a", "v2.a.AAAA", "v1.a.!!!!", "v1.a.AAAA", "v1.zz.AAAA"])
def test_garbage_is_an_error_and_not_a_value(value: str) -> None:
    with pytest.raises(SealBroken):
        _sealer(a=b"a" * 32).open(value, "t:1:c")


def test_a_changed_byte_is_found() -> None:
    sealer = _sealer(a=b"a" * 32)
    sealed = sealer.seal(b"money", "t:1:c")
    for position in range(5, len(sealed)):
        other = "A" if sealed[position] != "A" else "B"
        changed = sealed[:position] + other + sealed[position + 1 :]
        if changed.rstrip("=") == sealed.rstrip("="):
            continue
        try:
            assert sealer.open(changed, "t:1:c") == b"money", position
        except SealBroken:
            continue
        # The last letter of base64 has bits that carry nothing; all others must be refused.
        assert position >= len(sealed.rstrip("=")) - 1


def test_a_data_key_opens_its_own_and_nothing_else() -> None:
    main = _sealer(a=b"a" * 32)
    data, sealed_key = main.new_data_key("customers:1:key")
    sealed = data.seal_text("customer", "customers:1:email")
    again = main.data_key(sealed_key, "customers:1:key")
    assert again.open_text(sealed, "customers:1:email") == "customer"
    with pytest.raises(SealBroken):
        main.open_text(sealed, "customers:1:email")


def test_a_keyed_hash_depends_on_purpose_and_pepper() -> None:
    one = _sealer(a=b"a" * 32)
    other = Sealer({"a": b"a" * 32}, "a", b"q" * 32, random.token_bytes)
    assert one.keyed_hash("a", "x") != one.keyed_hash("b", "x")
    assert one.keyed_hash("a", "x") != other.keyed_hash("a", "x")
