"""A page of the tests' own beside the real templates."""

from collections.abc import Iterator

import pytest
from jinja2 import ChoiceLoader, DictLoader

from web.render import ENVIRONMENT

PAGES = {
    "test/page.html": '{% extends "base.html" %}{% block title %}T{% endblock %}'
    "{% block main %}<h1>{{ heading }}</h1>{% endblock %}",
    "test/_part.html": '<div id="part">{{ heading }}</div>',
    "test/when.html": "{{ at|when }}",
}


@pytest.fixture
def test_pages() -> Iterator[None]:
    real = ENVIRONMENT.loader
    ENVIRONMENT.loader = ChoiceLoader([DictLoader(PAGES), *([real] if real else [])])
    yield
    ENVIRONMENT.loader = real
