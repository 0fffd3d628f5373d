# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """What the collection's modules say of themselves. A module says where it differs, or more."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
    support: full
  platform:
    description: Target operating systems that the module can be used on.
    platforms: posix
    support: full
    details: Linux with systemd.
  action_group:
    description: Use C(group/selfhosted.prefect.prefect) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - selfhosted.prefect.prefect
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    details: The module changes nothing.
  diff_mode:
    details: The module changes nothing.
  idempotent:
    details: The module changes nothing.
"""
