"""The settings of a deployment, as its processes find them in their environment: the settings file of the role prefect."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

DATABASE = "PREFECT_SERVER_DATABASE_"
TLS = f"{DATABASE}SQLALCHEMY_CONNECT_ARGS_TLS_"
MESSAGING = "PREFECT_REDIS_MESSAGING_"
DOCKET_URL = "PREFECT_SERVER_DOCKET_URL"
SERVICES_DOCKET = "prefect"
"""The task queue (docket) of the background services. That of the API servers has a name that can be set."""
SCHEDULER = f"{SERVICES_DOCKET}:runs:schedule_recent_deployments"
"""Docket's record of the scheduler's next tick: the field ``when`` of this hash, in seconds since the epoch."""
EVENTS = "events"
"""The stream in Redis that every server reads events from."""
DATABASE_LOGIN = tuple(f"{DATABASE}{part}" for part in ("HOST", "PASSWORD", "USER", "NAME"))
"""What a process needs to log in to PostgreSQL, as it needs DOCKET_URL for Redis."""
MASK = "********"
TRUE = ("true", "1", "yes", "y", "on", "t")
"""What Prefect takes for true, in small letters."""


class MissingSettingError(Exception):
    """A setting that is not in the environment, by its name."""


class Settings:
    """Reads a setting when it is needed, so that a command needs no more of them than it uses."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def require(self, *names: str) -> str:
        """The last of these settings, all of which there have to be. Raises MissingSettingError."""
        for name in names:
            if name not in self.environment:
                raise MissingSettingError(name)
        return self.environment[names[-1]]

    def database(self, part: str) -> str:
        """A part of where the database is, and as whom Prefect logs in."""
        return self.require(f"{DATABASE}{part}")

    @property
    def database_port(self) -> int:
        return int(self.environment.get(f"{DATABASE}PORT", "5432"))

    def tls(self, name: str, default: str = "") -> str:
        """A choice of TLS to the database."""
        return self.environment.get(f"{TLS}{name}", default)

    @property
    def docket_url(self) -> str:
        """The Redis of the task queues."""
        return self.require(DOCKET_URL)

    @property
    def messaging_url(self) -> str:
        """The Redis of events and logs."""
        if url := self.environment.get(f"{MESSAGING}URL"):
            return url
        # It is the same server with the same user: only the number of the database may differ.
        return urlunsplit(urlsplit(self.docket_url)._replace(path=f"/{self.environment.get(f'{MESSAGING}DB', '0')}"))

    @property
    def dockets(self) -> tuple[str, str]:
        """The task queues of the background services and of the API servers."""
        return SERVICES_DOCKET, self.environment.get("PREFECT_SERVER_DOCKET_NAME", "prefect-server")

    @property
    def addresses(self) -> dict[str, str]:
        """Where PostgreSQL and Redis are."""
        url = urlsplit(self.docket_url)
        return {
            "PostgreSQL": f"{self.database('HOST')}:{self.database_port}",
            "Redis": f"{url.hostname}:{url.port or 6379}",
        }

    @property
    def api_base_path(self) -> str:
        return self.environment.get("PREFECT_SERVER_API_BASE_PATH", "/api")

    @property
    def api_url(self) -> str:
        """Where clients reach the API: the balancer."""
        return self.environment.get("PREFECT_API_URL", "")

    @property
    def api_ca_file(self) -> str:
        """The authorities that the balancer's certificate is from; empty for those of the system."""
        return self.environment.get("PREFECT_API_SSL_CERT_FILE", "")

    @property
    def csrf_protection(self) -> bool:
        """Whether servers take no change without a token of theirs."""
        return self.environment.get("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "").lower() in TRUE

    @property
    def api_auth(self) -> str:
        return self.environment.get("PREFECT_SERVER_API_AUTH_STRING", "")

    @property
    def switched_off(self) -> tuple[str, ...]:
        """The parts of Prefect that the settings switch off."""
        return tuple(self.environment.get("SELFHOSTED_PREFECT_SWITCHED_OFF", "").split())

    @property
    def scheduler_interval(self) -> float:
        return float(self.environment.get("PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS") or 5.0)

    def explain(self, error: BaseException) -> str:
        """What an error says, on one line and without the passwords."""
        return self.masked(str(error) or type(error).__name__)

    def masked(self, text: str) -> str:
        """The text on one line, with the passwords masked."""
        encoded = urlsplit(self.environment.get(DOCKET_URL, "")).password or ""
        for secret in (self.environment.get(f"{DATABASE}PASSWORD", ""), encoded, unquote(encoded)):
            text = text.replace(secret, MASK) if secret else text
        return " ".join(text.split())
