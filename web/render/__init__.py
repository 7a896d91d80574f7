"""Pages: the Jinja environment, its filters and globals, and `render`, which makes an answer."""

from web.render.assets import STATIC_DIR
from web.render.charts import Day
from web.render.pages import (
    ENVIRONMENT,
    TEMPLATE_DIR,
    TOAST_COOKIE,
    is_fragment,
    render,
    with_theme,
    with_toast,
)
from web.render.shell import Counts, Membership, Shell

__all__ = [
    "ENVIRONMENT",
    "STATIC_DIR",
    "TEMPLATE_DIR",
    "TOAST_COOKIE",
    "Counts",
    "Day",
    "Membership",
    "Shell",
    "is_fragment",
    "render",
    "with_theme",
    "with_toast",
]
