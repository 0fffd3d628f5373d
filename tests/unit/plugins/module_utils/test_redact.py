from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment, parse_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import (
    MASK,
    auth_secrets,
    environment_secrets,
    is_secret_name,
    redact,
    redact_document,
    redact_environment,
)

SECRET = "p@ss w/d\"'\\%"


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        "p%40ss%20w%2Fd%22%27%5C%25",
        "p%40ss+w%2Fd%22%27%5C%25",
        "p@ss w/d\\\"'\\\\%",
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_of_a_secret(shown: str) -> None:
    assert redact(f"before {shown} after", [SECRET]) == "before ******** after"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://prefect:hidden@cache:6379/1 now", "at redis://prefect:********@cache:6379/1 now"),
        ("postgresql+asyncpg://u:h%40x@db/p", "postgresql+asyncpg://u:********@db/p"),
        ("postgresql://u:a@b@db/p", "postgresql://u:********@db/p"),
        ("PREFECT_REDIS_MESSAGING_PASSWORD='a b' x", "PREFECT_REDIS_MESSAGING_PASSWORD=******** x"),
        ("PREFECT_SERVER_API_AUTH_STRING=a:b", "PREFECT_SERVER_API_AUTH_STRING=********"),
        ("'authorization': 'Basic YWJj'", "'authorization': 'Basic ********"),
        ("http://127.0.0.1:4200/api is fine", "http://127.0.0.1:4200/api is fine"),
        ("see http://10.0.0.1:4200 and mail a@b", "see http://10.0.0.1:4200 and mail a@b"),
    ],
)
def test_secrets_that_no_variable_names(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_secret_within_another() -> None:
    assert redact("abcdef abc", ["abc", "abcdef", ""]) == "******** ********"


@pytest.mark.parametrize(
    ("auth_string", "secrets"), [("", []), ("user:pass", ["user:pass", "pass"]), ("nocolon", ["nocolon"]), ("u:a:b", ["u:a:b", "a:b"])]
)
def test_auth_secrets(auth_string: str, secrets: list[str]) -> None:
    assert auth_secrets(auth_string) == secrets


def json_of(text: str) -> str:
    return json.dumps(text)[1:-1]


# Every password of the test hosts ends with this.
NASTY = "@:/%#?$'\"\\` end"
SECRETS = [f"Ah7xK29vbQ{NASTY}", NASTY, "plain-and-long-1", "Zwölf&Boxkämpfer<jagen>", "with  two blanks", "100%25", "a''b\\\\c", "s3cr"]
ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "url": lambda text: quote(text, safe=""),
    "url, lower case": lambda text: re.sub(r"%..", lambda found: found[0].lower(), quote(text, safe="")),
    "path": quote,
    "form": quote_plus,
    "sqlalchemy's url": lambda text: quote(text, safe=" +"),
    "url twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json": json_of,
    "json in json": lambda text: json_of(json_of(text)),
    "json, not ascii": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "repr within another": lambda text: repr(f'it\'s "{text}"')[7:-2],
    "bytes": lambda text: repr(text.encode())[2:-1],
    "shell": shlex.quote,
    "html": html.escape,
    "html twice": lambda text: html.escape(html.escape(text)),
    "systemd": lambda text: format_environment({"X": text})[3:-2],
    "sql": lambda text: text.replace("'", "''"),
    "postgresql.conf": lambda text: text.replace("\\", "\\\\").replace("'", "''"),
    "unit": lambda text: text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$"),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a login": lambda text: base64.b64encode(f"admin:{text}".encode()).decode(),
    "base64 of more": lambda text: base64.b64encode(f"ad:{text} and more".encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(f"a:{text}".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "hash": lambda text: hashlib.sha256(text.encode()).hexdigest(),
}


@pytest.mark.parametrize("surrounded", ["{}", "before {} after", '{{"key": "{}"}}', "x='{}'", "//user:{}@host/1"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_encoding_leaks(secret: str, encoding: str, surrounded: str) -> None:
    shown = ENCODINGS[encoding](secret)
    if encoding.startswith("base64 ") and len(secret) < 8:
        return  # too short to be told from other text in base64; headers are masked whatever they hold
    masked = redact_document(surrounded.format(shown), [secret])
    assert MASK in masked
    # No three characters of it in a row, but what the surroundings have themselves, and quotes around it.
    pieces = {shown[at : at + 3] for at in range(len(shown) - 2)} | {secret[at : at + 3] for at in range(len(secret) - 2)}
    if encoding.startswith("base64 "):
        pieces = {shown[at : at + 8] for at in range(8, len(shown) - 8)}  # the user's name before it may stay
    assert not [piece for piece in pieces if piece.strip("'\"\\ ") and piece in masked.replace(MASK, "") and piece not in surrounded]


def marker(kind: str) -> str:
    """A line around a private key, put together here so that this file holds none that looks real."""
    return f"-----{kind} PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password: two words", f"password: {MASK}"),
        ('{"password": "a \\" b", "port": 5}', f'{{"password": {MASK}, "port": 5}}'),
        ("db_password = 'it''s' # why", f"db_password = {MASK} # why"),
        ("GET /x?token=abc&page=2 200", f"GET /x?token={MASK}&page=2 200"),
        ("ALTER ROLE p PASSWORD 'a b' LOGIN", f"ALTER ROLE p PASSWORD {MASK} LOGIN"),
        ('default "Basic YWRtaW46eA==";', f'default "Basic {MASK}";'),
        ("requirepass a b", f"requirepass {MASK}"),
        (f"user prefect on #{'a0' * 32} ~* &* +@all", f"user prefect on #{MASK} ~* &* +@all"),
        ('user x on >secret ">with blank" ~*', f'user x on >{MASK} ">{MASK}" ~*'),
        ("    proxy_set_header X-Api-Key abc;", f"    proxy_set_header X-Api-Key {MASK};"),
        ("SCRAM-SHA-256$4096:abc=$def=:ghi=", f"SCRAM-SHA-256${MASK}"),
        ("admin:$6$salt$hash", f"admin:$6${MASK}"),
        ("key pnu_abcdefghijkl", f"key pnu_{MASK}"),
        (f"{marker('BEGIN RSA')}\nMII\nabc\n{marker('END RSA')}", None),
        (f"{marker('BEGIN')}\nMII, cut off", None),
    ],
)
def test_documents(text: str, shown: str | None) -> None:
    masked = redact_document(text)
    assert masked == shown if shown else "MII" not in masked
    assert redact_document(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "password_encryption = 'scram-sha-256'",
        "password authentication failed for user prefect",
        "proxy_set_header Authorization $prefect_authorization;",
        "ssl_certificate_key /etc/ssl/private/x.pem;",
        "auth_basic $prefect_realm; auth_basic_user_file /etc/nginx/prefect.users;",
        "Basic authentication is needed",
        "SELECT a > 5 AND b #> c FROM token_bucket",
        "2026-11-24T12:00:00+0000 api1 prefect[5]: Started server process [5]",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_document(text, ["Ah7xK29vbQ"]) == text


def test_the_parts_of_a_secret_that_a_wrong_parser_shows() -> None:
    assert "Ah7xK29vbQ45" not in redact_document("invalid port 'Ah7xK29vbQ45'", [f"Ah7xK29vbQ45{NASTY}"])


def test_environment_file() -> None:
    values = {
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:p{NASTY}",
        "PREFECT_SERVER_DOCKET_URL": f"redis://prefect:{quote('r' + NASTY, safe='')}@cache:6379/1",
        "PREFECT_SERVER_DATABASE_PASSWORD": f"d{NASTY}",
        "PREFECT_SERVER_DATABASE_USER": "prefect",
        "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Token": "h3ader-value"}',
        "PREFECT_API_KEY": "",
    }
    content = format_environment(values)
    secrets = environment_secrets(content)
    assert {f"admin:p{NASTY}", f"p{NASTY}", f"d{NASTY}", quote("r" + NASTY, safe="")} <= set(secrets)
    shown = parse_environment(redact_environment(content, secrets))
    assert shown == {
        **dict.fromkeys(["PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_PASSWORD", "PREFECT_API_KEY"], MASK),
        "PREFECT_SERVER_DATABASE_USER": "prefect",
        "PREFECT_SERVER_DOCKET_URL": f"redis://prefect:{MASK}@cache:6379/1",
        "PREFECT_CLIENT_CUSTOM_HEADERS": f'{{"X-Token": {MASK}}}',
    }


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("PREFECT_SERVER_DATABASE_PASSWORD", True),
        ("PREFECT_LOGFIRE_WRITE_TOKEN", True),
        ("PREFECT_API_KEY", True),
        ("api-key", True),
        ("PREFECT_SERVER_API_AUTH_STRING", True),
        ("PREFECT_SERVER_DATABASE_USER", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_KEY_FILE", False),
    ],
)
def test_secret_names(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


@pytest.mark.parametrize(
    "text",
    [
        '2026-11-24T12:00:00+0000 api1 prefect[5]: "POST /api/task_runs/ HTTP/1.1" 201 it\'s %2F fine &amp; well\n' * 5000,
        "x" * 500_000,
        "a-" * 250_000,
        "a." * 250_000,
        "\\" * 100_000,
        "://" * 100_000,
        "token" * 100_000,
        "password " * 50_000,
    ],
    ids=lambda text: text[:12],
)
def test_much_text_takes_little_time(text: str) -> None:
    begun = time.process_time()
    redact_document(text, SECRETS)
    assert time.process_time() - begun < 5
