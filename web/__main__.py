"""Start the web server: `python -m web`; settings come from the environment."""

import os
import sys

import uvicorn

from app.settings import Settings, SettingsError, from_environment
from web.asgi import create_app


def config(settings: Settings) -> uvicorn.Config:
    """Return how to serve: where to listen is a setting, because what is safe depends on it."""
    return uvicorn.Config(
        create_app,
        factory=True,
        host=settings.bind_host.strip("[]"),
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        # Forwarded headers count only from TRUSTED_PROXIES, which our own code looks after.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        # A second is left for the connections to close before whoever stops us loses patience.
        timeout_graceful_shutdown=max(1, int(settings.grace_seconds) - 1),
    )


def main() -> int:
    """Serve until SIGTERM or SIGINT; 2 when settings are wrong, 3 when the server cannot start."""
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - the one sentence a person needs.
        return 2
    server = uvicorn.Server(config(settings))
    server.run()
    return 0 if server.started else 3


if __name__ == "__main__":
    raise SystemExit(main())
