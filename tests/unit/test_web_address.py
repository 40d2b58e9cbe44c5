"""Which text is the address of something on the web."""

from __future__ import annotations

import pytest

from iqdb_core.web_address import split_web_address, without_user

LABEL = "a" * 63


@pytest.mark.parametrize(
    "text",
    [
        *("http://localhost", "https://user:secret@a.example:81/b?c#d", "http://[::1]:5588/", "http://10.1/"),
        *("http://example.org./", f"http://{LABEL}.{LABEL}/", "http://b\u00fccher.example/", "HTTP://A_B/"),
    ],
)
def test_addresses_are_taken(text: str) -> None:
    assert split_web_address(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.org", "ftp://example.org", "http://", "http://[", "http://a:0/", "http://a:99999/"),
        *("javascript:alert(1)", "file:///etc/passwd", "--new-instance", "http://a b/", "http://a/\n"),
        *("http://a..b/", "http://.x/", "http://./", "http://../", "http://a../", "http://a..:1"),
        f"http://{LABEL}a.de/",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    assert split_web_address(text) is None


@pytest.mark.parametrize(
    "user", ["", "me@", "me:hidden@", "me:hid/den@", "me:hid?den@", "me:hid#den@", "me:hid@den@"]
)
def test_no_password_is_shown_whatever_is_in_it(user: str) -> None:
    assert without_user(f"dns+http://{user}host:5589/below") == "dns+http://host:5589/below"
