"""Run by a release's own Python: Prefect's own client, with its defaults, against an API whose database is away for so many seconds.

It prints how long the client took and the status that it got in the end; `plain` leaves out what the role's files add.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from typing import Any

import uvicorn
from outage_errors import os_error, through
from prefect.client.base import PrefectHttpxSyncClient
from selfhosted_prefect.patches import outages


def main() -> int:
    """Runs the server and the client, and prints one line of JSON."""
    seconds, plain, late = float(sys.argv[1]), "plain" in sys.argv, "late" in sys.argv
    back = float("inf")
    attempts = 0

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        nonlocal attempts
        if scope["type"] != "http":
            return
        attempts += 1
        if time.monotonic() < back:
            if plain:
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
            raise through("asyncpg", os_error(111))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"true"})

    answers = outages.Answers(logging.getLogger("outages"))
    if late:
        outages.UNCOUNTED_SECONDS, outages.RETRY_AFTER_LATER = -1.0, 1
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(outages.Middleware(app, outages.Kinds(), answers), log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    began = time.monotonic()
    back = began + seconds
    with PrefectHttpxSyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", raise_on_all_errors=False) as client:
        status = client.post("/task_runs/x/set_state", json={}).status_code
    sys.stdout.write(json.dumps({"status": status, "took": time.monotonic() - began, "attempts": attempts}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
