"""The console script: a module for each group of commands. Nothing slow is imported before it is needed."""

from penpot_telemetry.cli.app import commands, main

__all__ = ["commands", "main"]
