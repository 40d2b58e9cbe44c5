"""Who asks: tokens in files that change, headers however they are written, more callers than are kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from api.access import keyring as keyring_module
from api.access import rate
from api.access.keyring import Keyring, parse_tokens
from api.access.policy import AccessPolicy
from api.access.rate import RateLimit
from api.access.rights import Right
from tests.unit.test_api_access import Clock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_changed_token_file_of_the_same_length_is_read_again(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "tokens"
    file.write_text("read one\n")
    ring = Keyring(file=file, clock=clock)
    file.write_text("read two\n")
    os.utime(file, ns=(1, 1))
    clock.now += keyring_module.LOOK_S
    assert ring.find(b"one") is None
    assert ring.find(b"two") is not None


def test_of_too_many_callers_those_are_forgotten_that_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_CALLERS", 10)
    limit = RateLimit(1, Clock())
    for number in range(100):
        limit.charge(str(number), int(rate.BURST_S))
    assert limit.take("99") > 0
    assert limit.take("0") == 0


@pytest.mark.parametrize("value", [b"Bearer w", b"bearer w", b"BEARER  w "])
def test_the_scheme_of_a_token_may_be_written_in_any_letters(value: bytes) -> None:
    policy = AccessPolicy(Keyring(parse_tokens("write:w")), Right.READ, Right.READ)
    assert policy.check("POST", "/images/1", [(b"authorization", value)], None).needed is Right.WRITE
