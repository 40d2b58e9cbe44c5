"""`docs/settings.md`, made from the model: `python -m iqdb_core.settings_page > docs/settings.md`."""

from __future__ import annotations

import sys

from iqdb_core.settings import PREFIX, Settings, flags_of, group_of, roles_of, shown_default
from iqdb_core.settings_terms import Group

INTRODUCTION = """\
# Settings

Every option can be given on the command line (`iqdb ROLE --help`) or in the environment. Where both are
given, the command line wins.

- Sizes are in bytes and times in seconds, as plain numbers: `67108864`, not `64 MiB`.
- Switches are `--open` or `--no-open` on the command line, `IQDB_OPEN=true` or `IQDB_OPEN=false` in the
  environment.
- An empty variable counts as not given. Variables that begin with `IQDB_` and are not settings cause a
  warning.
- A value that cannot work ends the command with exit code 2 and a message that says what would be right.

The column *role* names the commands that take the option: the roles of a server, `upgrade` and `migrate`.
*commands* stands for all the others (`add`, `search`, ...); `iqdb COMMAND --help` lists those of each.
"""


def settings_page() -> str:
    """Return the page, with one table for each group of options."""
    lines = [INTRODUCTION]
    for group in Group:
        lines += [f"## {group}", "", "| option | environment | default | role | |", "|---|---|---|---|---|"]
        for name, field in Settings.model_fields.items():
            if group_of(field) is group:
                flags = ", ".join(f"`{flag.partition('/')[0]}`" for flag in flags_of(name))
                roles = ", ".join(roles_of(field))
                variable = f"`{PREFIX}{name.upper()}`"
                lines.append(
                    f"| {flags} | {variable} | {shown_default(name)} | {roles} | {field.description} |"
                )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
