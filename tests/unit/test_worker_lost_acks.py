"""When an acknowledgement counts as lost."""

from __future__ import annotations

from dataclasses import dataclass

from worker.lost_acks import AcknowledgementWatch


@dataclass
class Message:
    acknowledged: bool = False


def test_an_acknowledgement_under_way_is_not_lost_yet() -> None:
    watch = AcknowledgementWatch()
    watch.expect(Message(), watch.generation)
    assert not watch.has_lost()


def test_an_acknowledgement_that_never_came_is_lost() -> None:
    watch = AcknowledgementWatch()
    watch.expect(Message(), watch.generation)
    watch.has_lost()
    assert watch.has_lost()


def test_an_acknowledgement_that_came_is_forgotten() -> None:
    watch = AcknowledgementWatch()
    message = Message()
    watch.expect(message, watch.generation)
    watch.has_lost()
    message.acknowledged = True
    assert not watch.has_lost()
    assert not watch.has_lost()


def test_what_an_older_connection_had_in_hand_does_not_count() -> None:
    watch = AcknowledgementWatch()
    old = watch.generation
    watch.expect(Message(), old)
    watch.renew()
    watch.expect(Message(), old)
    watch.has_lost()
    assert not watch.has_lost()
