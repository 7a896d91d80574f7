"""The routes of the platform's admins."""

from web.dashboard import (
    admin_audit,
    admin_bulk,
    admin_decisions,
    admin_health,
    admin_letters,
    admin_merchants,
    admin_reviews,
)
from web.dashboard.access import admin_pages

router = admin_pages(
    admin_letters.listing,
    admin_letters.news,
    admin_letters.show,
    admin_letters.changed,
    admin_bulk.preview,
    admin_bulk.decide,
    admin_bulk.waiting,
    admin_bulk.answer,
    admin_decisions.retry,
    admin_decisions.look,
    admin_decisions.discard_form,
    admin_decisions.discard,
    admin_reviews.listing,
    admin_reviews.show,
    admin_reviews.look,
    admin_reviews.decide,
    admin_reviews.answer,
    admin_health.show,
    admin_health.letter,
    admin_merchants.index,
    admin_merchants.show_new,
    admin_merchants.make,
    admin_merchants.show,
    admin_merchants.invite,
    admin_audit.index,
    admin_audit.show,
)
