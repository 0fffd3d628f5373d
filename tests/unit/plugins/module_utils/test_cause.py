"""The line that says why a program ended."""

from __future__ import annotations

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.cause import cause

SETTINGS = """
ERROR:    Traceback (most recent call last):
  File "/opt/prefect/current/lib/python3.11/site-packages/prefect/settings/context.py", line 25, in get
    return Settings()
           ^^^^^^^^^^
pydantic_core._pydantic_core.ValidationError: 1 validation error for DatabaseSettings
timeout
  Input should be a valid number [type=float_parsing, input_value='soon', input_type=str]
    For further information visit https://errors.pydantic.dev/2.11/v/float_parsing
"""
CHAIN = """
17:00:01.000 | ERROR   | uvicorn.error - Traceback (most recent call last):
  File "redis/asyncio/connection.py", line 291, in connect
    await self._connect()
ConnectionRefusedError: [Errno 111] Connect call failed ('10.0.0.5', 6379)

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "starlette/routing.py", line 694, in lifespan
    async with self.lifespan_context(app) as maybe_state:
redis.exceptions.ConnectionError: Error 111 connecting to 10.0.0.5:6379. Connect call failed ('10.0.0.5', 6379).

17:00:01.001 | ERROR   | uvicorn.error - Application startup failed. Exiting.
Server stopped!
"""
WARNED = (
    "Traceback (most recent call last):\n  File \"a.py\", line 1\nAttributeError: 'str' object has no attribute 'items'\n"
    + "Traceback (most recent call last):\n  File \"b.py\", line 1\nImportError: cannot import name 'task' from 'prefect'\n"
    + "Warning!  Failed to load collection 'prefect_redis': ImportError: cannot import name 'task' from 'prefect'\n"
)
BARE = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nKeyboardInterrupt\n'
GROUP = """
  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in main
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "b.py", line 2, in work
    | ValueError: of its own
"""
REDIS = """
1:C 28 Nov 2026 17:00:01.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo

*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***
Reading the configuration file, at line 12
>>> 'maxmemory lots'
argument must be a memory value
"""
NGINX = (
    'nginx: [emerg] unknown directive "prxy_pass" in /etc/nginx/prefect.conf:7\nnginx: configuration file /etc/nginx/nginx.conf test failed'
)
POSTGRES = """
2026-11-28 17:00:01.000 UTC [77] LOG:  unrecognized configuration parameter "shared_bufers" in file "/etc/postgresql/90-prefect.conf" line 3
2026-11-28 17:00:01.000 UTC [77] FATAL:  configuration file "/etc/postgresql/90-prefect.conf" contains errors
"""
PORT = "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 4200): address already in use\nServer stopped!"
PROMETHEUS = (
    'ts=2026-11-28T17:00:01Z caller=main.go:587 level=error msg="Error loading config" err="yaml: line 4: did not find expected key"'
)
MIGRATION = CHAIN.replace("uvicorn.error - ", "") + "An error occurred while running the migration!\n"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        pytest.param(
            SETTINGS,
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for DatabaseSettings; timeout; Input should be a valid number"
            " [type=float_parsing, input_value='soon', input_type=str]",
            id="a setting",
        ),
        pytest.param(
            CHAIN,
            "redis.exceptions.ConnectionError: Error 111 connecting to 10.0.0.5:6379. Connect call failed ('10.0.0.5', 6379).",
            id="the last of a chain",
        ),
        pytest.param(MIGRATION, "redis.exceptions.ConnectionError: Error 111", id="a migration"),
        pytest.param(WARNED, "AttributeError: 'str' object has no attribute 'items'", id="a warning with a traceback after it"),
        pytest.param(BARE, "KeyboardInterrupt", id="an exception without words"),
        pytest.param(GROUP, "ValueError: of its own", id="within a group"),
        pytest.param(
            REDIS,
            "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***; Reading the configuration file, at line 12; >>> 'maxmemory lots'; "
            "argument must be a memory value",
            id="Redis",
        ),
        pytest.param(NGINX, 'nginx: [emerg] unknown directive "prxy_pass"', id="nginx"),
        pytest.param(POSTGRES, 'LOG:  unrecognized configuration parameter "shared_bufers"', id="PostgreSQL"),
        pytest.param(PORT, "[Errno 98] error while attempting to bind on address ('0.0.0.0', 4200): address already in use", id="a port"),
        pytest.param(PROMETHEUS, 'level=error msg="Error loading config" err="yaml: line 4', id="Prometheus"),
        pytest.param("INFO: started\nINFO: 12 requests\n", "", id="nothing"),
        pytest.param("", "", id="no line"),
        pytest.param("Traceback (most recent call last):\n  File", "", id="cut off"),
        pytest.param("ERROR: " + "x" * 400, "...", id="long"),
    ],
)
def test_cause(output: str, said: str) -> None:
    found = cause(output.splitlines())
    assert said in found if said else found == ""
    assert len(found) <= 303
