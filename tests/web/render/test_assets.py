"""Static files: vendored, addressed by content, free of anything inline."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.web.render.support import HOSTILE, parsed
from web.render import (
    STATIC_DIR,
    assets,
)


def test_vendored_files_are_the_ones_that_were_checked() -> None:
    text = (STATIC_DIR / "vendor" / "VENDOR.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", text, re.MULTILINE)
    present = {
        path.name
        for path in (STATIC_DIR / "vendor").iterdir()
        if path.suffix != ".md" and not path.name.startswith("LICENSE")
    }
    assert {name for name, _ in rows} == present
    for name, digest in rows:
        content = (STATIC_DIR / "vendor" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name
    for name in re.findall(r"`(LICENSE\.[a-z.-]+txt)`", text):
        assert (STATIC_DIR / "vendor" / name).stat().st_size > 300


def test_icons_are_the_ones_that_were_checked() -> None:
    digest = hashlib.sha256()
    for path in sorted((STATIC_DIR / "icons").iterdir()):
        content = path.read_bytes()
        parsed(content.decode())
        assert b"script" not in content
        digest.update(path.name.encode() + b"\n" + content)
    assert digest.hexdigest() in (STATIC_DIR / "vendor" / "VENDOR.md").read_text()


def test_addresses_of_static_files_name_their_content() -> None:
    content = (STATIC_DIR / "counterfoil.css").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert assets.static("counterfoil.css") == f"/static/counterfoil.css?v={digest[:16]}"
    with pytest.raises(FileNotFoundError):
        assets.static("nothing.css")


@pytest.mark.parametrize("name", ["no-such-icon", "../counterfoil", "", "check.svg"])
def test_an_icon_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(LookupError):
        assets.icon(name)


def test_a_qr_code_shows_the_key_only_to_cameras() -> None:
    secret = "DEMODEMODEMODEMODEMODEMODEMODEMO"
    markup = assets.qr_svg(f"otpauth://totp/x?secret={secret}", label=HOSTILE)
    assert secret not in markup
    assert parsed(markup).attrib["aria-label"] == HOSTILE
    assert "style" not in markup


def test_the_style_sheet_stays_small_and_loads_nothing_from_elsewhere() -> None:
    css = (STATIC_DIR / "counterfoil.css").read_text()
    assert len(css.splitlines()) < 250
    assert "http" not in css
    assert "@import" not in css


def test_static_files_hold_no_inline_handlers() -> None:
    script = Path(STATIC_DIR / "counterfoil.js").read_text()
    assert "eval(" not in script
    assert "innerHTML" not in script
