"""Run by a release's own Python with the role's files on its path: what the API says to each auth string, as JSON.

Arguments: the auth strings to send. The server's own, and the further ones that it accepts, are in the environment.
"""

from __future__ import annotations

import base64
import json
import sys
import warnings

from prefect.server.api.server import create_api_app
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect


def requested(client: TestClient, auth_string: str) -> int:
    """The status of a request."""
    credentials = base64.b64encode(auth_string.encode()).decode()
    return int(client.get("/admin/version", headers={"Authorization": f"Basic {credentials}"}).status_code)


def connected(client: TestClient, auth_string: str) -> bool:
    """Whether a websocket is accepted."""
    with client.websocket_connect("/events/in", subprotocols=["prefect"]) as websocket:
        websocket.send_json({"type": "auth", "token": auth_string})
        try:
            return bool(websocket.receive_json()["type"] == "auth_success")
        except WebSocketDisconnect:
            return False


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    api = TestClient(create_api_app())
    sys.stdout.write(json.dumps({each: [requested(api, each), connected(api, each)] for each in sys.argv[1:]}) + "\n")
