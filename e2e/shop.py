"""A shop's server: receives messages and checks them with the reference library."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


class Shop:
    """Listens on loopback; `messages` holds what was verified, `forged` what was not."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.forged = 0
        self.secret = ""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                shop.receive(body, headers)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name.
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}/hooks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def receive(self, body: bytes, headers: dict[str, str]) -> None:
        """Keep a message whose signature holds."""
        try:
            message: Any = Webhook(self.secret).verify(body, headers)
        except Exception:  # noqa: BLE001 - the library raises several kinds; all mean forged.
            self.forged += 1
        else:
            self.messages.append(message)
            self.ids.append(headers["webhook-id"])

    def types(self) -> list[str]:
        """Return the types of the messages, in the order of their sequence numbers."""
        ordered = sorted(self.messages, key=lambda one: one["data"]["sequence"] or 0)
        return [one["type"] for one in ordered]

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
