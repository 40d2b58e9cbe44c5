"""Answers: many images described together say what each says alone."""

from __future__ import annotations

import json

from api.web.answers import Dialect, image_body, json_response, match_bodies
from iqdb_core import codec
from iqdb_core.model import Match
from tests.fixtures import pictures

SIGNATURES = [codec.from_hash(text) for _, text in pictures.golden()[:5]]


def test_matches_have_the_same_fields_as_their_images() -> None:
    matches = [Match(number, 90.5 - number, one) for number, one in enumerate(SIGNATURES)]
    for dialect in Dialect:
        body = json.loads(json_response(match_bodies(matches, dialect)).body)
        alone = [
            json.loads(json_response(image_body(match.image_id, match.signature, dialect)).body)
            for match in matches
        ]
        assert body == [{**one, "score": match.score} for one, match in zip(alone, matches, strict=True)]
        assert json.loads(json_response(match_bodies([], dialect)).body) == []


def test_the_numbers_are_the_signatures() -> None:
    (signature, *_) = SIGNATURES
    body = json.loads(json_response(image_body(7, signature, Dialect.DANBOORU)).body)
    assert body["hash"] == codec.to_hash(signature)
    assert body["signature"]["avglf"] == list(signature.averages)
    assert body["signature"]["sig"] == signature.signed_positions().tolist()
    assert codec.to_hashes(SIGNATURES) == [codec.to_hash(one) for one in SIGNATURES]
    assert codec.to_hashes([]) == []


def test_headers_of_an_answer() -> None:
    answer = json_response({"a": 1}, status=202, headers={"Location": "/jobs/1"})
    assert (answer.status_code, answer.body) == (202, b'{"a":1}')
    assert dict(answer.headers) == {
        "content-length": "7",
        "content-type": "application/json",
        "location": "/jobs/1",
    }
