"""Static files by content: addresses that change with the file, integrity hashes, inline icons."""

import base64
import hashlib
import io
import re
from functools import cache
from pathlib import Path

import segno
from markupsafe import Markup

STATIC_DIR = Path(__file__).parent.parent / "static"
STATIC_URL = "/static"

_ICON_FRAME = re.compile(r"<svg[^>]*>|</svg>")
_ICON_NAME = re.compile(r"[a-z0-9-]+")


@cache
def static(path: str) -> str:
    """Return the address of a static file; it names the content, so it may be cached for ever."""
    digest = hashlib.sha256((STATIC_DIR / path).read_bytes()).hexdigest()
    return f"{STATIC_URL}/{path}?v={digest[:16]}"


@cache
def sri(path: str) -> str:
    """Return the value of an `integrity` attribute for a static file."""
    digest = hashlib.sha384((STATIC_DIR / path).read_bytes()).digest()
    return "sha384-" + base64.b64encode(digest).decode()


@cache
def icon(name: str, cls: str = "") -> Markup:
    """Return a decorative icon of `static/icons`. Raises LookupError when there is none."""
    source = STATIC_DIR / "icons" / f"{name}.svg"
    if not _ICON_NAME.fullmatch(name) or not source.is_file():
        raise LookupError(f"no icon named {name!r} in static/icons")
    # Icons are our own files, never data: their markup is trusted.
    inner = Markup(_ICON_FRAME.sub("", source.read_text()).strip())  # noqa: S704 - see above
    return Markup(
        '<svg class="{}" viewBox="0 0 24 24" fill="none" stroke="currentColor"'
        ' stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{}</svg>'
    ).format(f"icon {cls}".strip(), inner)


def qr_svg(uri: str, label: str = "QR code. The same key is written out beside it.") -> Markup:
    """Return a QR code as SVG, dark on transparent: stand it on white in both themes."""
    buffer = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        buffer,
        kind="svg",
        xmldecl=False,
        border=2,
        dark="#111",
        omitsize=True,
        svgclass=None,
        lineclass=None,
    )
    frame = Markup('<svg role="img" aria-label="{}" ').format(label)
    # segno writes numbers and colours only; the address itself is not in the markup.
    return Markup(buffer.getvalue().decode().replace("<svg ", frame, 1))  # noqa: S704 - see above
