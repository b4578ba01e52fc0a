"""The command `mirror`: parses arguments, calls, prints, and turns errors into exit codes.

Each module adds its commands to the group; one becomes part of it here.
"""

from sync.cli import completeness, events, money, schema, services, storm
from sync.cli.command import main

__all__ = ["completeness", "events", "main", "money", "schema", "services", "storm"]
