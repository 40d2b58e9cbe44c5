"""The queue behind TLS, by the addresses that Celery takes: for the ledger and for messages."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.roles.queue_parts import create_sender
from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs import JobLedger, Keys, RedisPort, Submission
from iqdb_core.settings import Settings
from tests.fixtures.ledgers import accept_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.redis import RedisServer

FOLDER = Path(__file__).parents[1] / "fixtures" / "tls"
CERTIFICATE = FOLDER / "certificate.pem"


class TlsEndpoint:
    """Speaks TLS on a port of its own, and passes what it hears on to a plain one."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATE, FOLDER / "key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            client = self._context.wrap_socket(plain, server_side=True)
        except (OSError, ssl.SSLError):
            plain.close()  # it did not trust the certificate
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()
        client.close()
        server.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass  # the other end was quicker
    try:
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.fixture
def endpoint(redis_server: RedisServer, redis_port: RedisPort) -> Iterator[TlsEndpoint]:  # noqa: ARG001
    endpoint = TlsEndpoint(redis_server.port)
    yield endpoint
    endpoint.close()


def test_ledger_and_messages_go_through_tls(endpoint: TlsEndpoint, redis_server: RedisServer) -> None:
    url = f"rediss://127.0.0.1:{endpoint.port}/0?ssl_cert_reqs=required&ssl_ca_certs={CERTIFICATE}"
    port = RedisPort.connect(url)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    assert ledger.get(accept_one(ledger)).image_id == 1
    create_sender(Settings.read(redis_url=url))(1)
    with redis_server.client() as client:
        assert client.llen(Keys().queue) == 1
    port.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(endpoint: TlsEndpoint) -> None:
    port = RedisPort.connect(f"rediss://127.0.0.1:{endpoint.port}/0?ssl_cert_reqs=required")
    with pytest.raises(QueueUnavailable):
        JobLedger(port, revision_floor=lambda: 0).accept([Submission.of_delete(1)])
    port.close()
