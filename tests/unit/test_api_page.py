"""Options of the page: addresses that cannot be used, and from where thumbnails may come."""

from __future__ import annotations

import pytest

from api.web.subjects.page import PageOptions
from iqdb_core.errors import WrongUsage


@pytest.mark.parametrize(
    "template",
    [
        "https://example.org/posts",
        "example.org/{id}",
        "javascript:alert({id})",
        "https:///{id}.jpg",
        "https://{id}.example.org/",
        "https://user@example.org/{id}",
        "https://example.org; script-src *;/{id}",
        "//example.org/{id}",
        "http://[{id}",
        "http://example.org:999999/{id}",
        "http://example.org/\udcff{id}",
    ],
)
@pytest.mark.parametrize("name", ["link", "thumbnail"])
def test_an_address_that_cannot_be_one_is_refused(name: str, template: str) -> None:
    with pytest.raises(WrongUsage, match=f"--{name} "):
        PageOptions(**{name: template})


def test_only_the_origin_of_thumbnails_is_let_in() -> None:
    options = PageOptions(thumbnail="https://cdn.example.org:8443/small/{id}.jpg")
    policy = options.headers()["Content-Security-Policy"]
    assert "img-src 'self' blob: data: https://cdn.example.org:8443;" in policy
    assert policy.startswith("default-src 'self';")
    assert "example" not in PageOptions().headers()["Content-Security-Policy"]
