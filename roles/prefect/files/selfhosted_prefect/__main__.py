"""The command line: ``python -m selfhosted_prefect COMMAND``, with the settings file of the role prefect as environment."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from selfhosted_prefect.settings import MissingSettingError, Settings

# A command loads its own module only: a unit waits for it.
COMMANDS = {
    "await-state": "await_state",
    "exporter": "exporter.program",
    "requeue": "requeue",
    "retention": "retention",
    "ui-files": "ui_files",
    "watchdog": "watchdog.program",
}


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m selfhosted_prefect", description="What runs beside Prefect on a host.")
    parser.add_argument("command", choices=COMMANDS)
    command: str = parser.parse_args(arguments[:1]).command
    module = importlib.import_module(f"selfhosted_prefect.{COMMANDS[command]}")
    try:
        return int(module.main(arguments[1:], Settings(environment)))
    except MissingSettingError as missing:
        print(f"the environment has no {missing}: start this with the settings file of the role prefect", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
