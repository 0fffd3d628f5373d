# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of Prefect's release and servers, and with what a playbook was asked to do with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.rolling import rolling_batches
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.workers import worker_problems

_LEAST_RELEASES = 2


def prefect(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__prefect_lock_problem`` is what the lookup ``prefect_lock`` says, ``__prefect_wheelhouse_archives`` the archives of it."""
    lock, keep = text(variables["__prefect_lock_problem"]), variables["prefect_releases_keep"]
    if lock:
        yield lock
    if int(keep) < _LEAST_RELEASES:
        yield f"prefect_releases_keep is {keep}; it has to be {_LEAST_RELEASES} or more, so that there is a release to go back to."
    # Without a lock file there is no name to look for.
    if not lock and variables["prefect_wheelhouse"] and not variables["__prefect_wheelhouse_archives"]:
        yield (
            f"The folder prefect_wheelhouse, {variables['prefect_wheelhouse']}, has no archive for {variables['common_release_id']}; "
            "make it with the playbook selfhosted.prefect.wheelhouse (make wheelhouse), for this version."
        )
    yield from _logfire(variables)


def _logfire(variables: Mapping[str, Any]) -> Iterator[str]:
    if not boolean(variables["prefect_logfire_enabled"]):
        return
    background, rate = variables["prefect_logfire_sampling_background_rate"], variables["prefect_logfire_sampling_rate"]
    if not text(variables["prefect_logfire_token"]):
        yield (
            "prefect_logfire_enabled needs prefect_logfire_token, the write token of a Logfire project. Set it, in a file encrypted with"
            " ansible-vault."
        )
    elif not 0 <= float(background) <= float(rate) <= 1:
        yield (
            f"prefect_logfire_sampling_background_rate is {background} and prefect_logfire_sampling_rate is {rate}; both are parts of 1, "
            "and the first must not exceed the second, or no server would start."
        )


def prefect_api(variables: Mapping[str, Any]) -> Iterator[str]:
    try:
        rolling_batches(variables["groups"].get("prefect_api") or [], variables["prefect_api_serial"])
    except ValueError as error:
        yield f"{error}."


def prefect_worker(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__prefect_worker_types`` and ``__prefect_worker_versions`` are what the API and the host said of work pools and environments."""
    found = variables["__prefect_worker_all"]
    for name in ("prefect_api_url", "prefect_auth_string"):
        if found and not text(variables.get(name)):
            yield f"{name} is missing or empty; the workers of prefect_workers need it. Set it, or take them out."
    types, versions = variables["__prefect_worker_types"], variables["__prefect_worker_versions"]
    yield from worker_problems(found, text(variables["common_release_version"]), types, versions)


def rollback(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__prefect_rollback`` is what the filter ``rollback_release`` says, ``__lacking`` are hosts that do not have the release."""
    target, lacking, left_out = (variables[name] for name in ("__prefect_rollback", "__lacking", "__left_out"))
    if target["problem"]:
        yield target["problem"]
    if lacking:
        yield (
            f"{', '.join(lacking)} does not have {target['release']} any more. Run the playbook site with"
            f" prefect_version={target['version']} and prefect_allow_downgrade=true, which installs it."
        )
    if left_out and boolean(variables["prefect_rollback_schema"]):
        yield (
            f"prefect_rollback_schema takes the schema away from under {', '.join(left_out)}, which this run leaves out. Run it without"
            " --limit."
        )


def upgrade(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__prefect_upgrade_hosts`` has the release that each host runs."""
    running, wanted = set(variables["__prefect_upgrade_hosts"].values()), text(variables["prefect_upgrade_to"])
    if not any(running):
        yield "No host runs a release yet, so there is nothing to upgrade. Run the playbook site."
    if wanted and running == {variables["common_release"]}:
        yield (
            f"prefect_upgrade_to is {wanted}, and every host runs that already. Leave it out to have everything checked and brought in line"
            " with the inventory."
        )
    if variables["prefect_upgrade_backup"] == "command" and not variables["prefect_upgrade_backup_command"]:
        yield 'prefect_upgrade_backup is "command", and prefect_upgrade_backup_command is empty; it takes the words of a command.'


def rotate(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__rotate_what`` is what differs between the inventory and the hosts, ``__rotate_left_out`` are hosts outside of this run.

    ``__rotate_users`` are the users with which servers log in to the database that are neither Prefect's role nor the second login.
    """
    what, groups = variables["__rotate_what"], variables["groups"]
    users, left_out = variables["__rotate_users"], variables["__rotate_left_out"]
    for group, name, secret in (
        ("postgres", "the password of the database", "prefect_database_password"),
        ("redis", "the password of Redis", "prefect_redis_password"),
    ):
        if name in what and not groups.get(group):
            yield (
                f"{secret} has changed, and the group {group} is empty: of a managed service two passwords can be valid at once only if its"
                f" provider says so. Change it there, then run the playbook site. (docs/rotation.md)"
            )
    if users:
        yield (
            f"The servers log in to the database as {', '.join(users)}, and prefect_database_user is {variables['prefect_database_user']}."
            " This playbook changes passwords and not the owner of the database: set prefect_database_user back."
        )
    if left_out:
        yield f"{', '.join(left_out)} would go on with the old secrets, which end. Run this without --limit."
    if variables["common_rotate_ca"] != "false":
        yield from _rotate_authority(variables)


def _rotate_authority(variables: Mapping[str, Any]) -> Iterator[str]:
    mode = text(variables["tls_mode"]).lower()
    if mode != "private_ca":
        yield (
            f"prefect_rotate_ca is {variables['common_rotate_ca']}, and tls_mode is {mode}: there is no private authority to replace. Leave"
            " it out; docs/certificates.md says how certificates of your own are renewed."
        )
        return
    folders = (Path(text(variables[name])).expanduser().parent for name in ("tls_ca_certificate", "tls_ca_key"))
    certificate, key = (folder / name for folder, name in zip(folders, ("ca-next.crt", "ca-next.key")))
    if certificate.exists() and not key.exists():
        yield (
            f"{certificate} is there, where Ansible runs, and its key {key} is not: the authority to come was made on another machine. Go"
            " on there, or bring the key here."
        )
