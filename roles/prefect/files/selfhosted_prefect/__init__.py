"""What runs beside Prefect on the hosts of a deployment, by the interpreter of a release: ``python -m selfhosted_prefect COMMAND``."""
