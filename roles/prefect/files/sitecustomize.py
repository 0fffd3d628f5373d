"""Python imports this at the start of the processes of Prefect's units, from their PYTHONPATH."""

from selfhosted_prefect import patches

patches.activate()
