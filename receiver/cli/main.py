"""The receiver's commands, by name. The module of a command is imported when it runs, so `--help` costs nothing."""

from importlib import import_module

import click

from receiver.cli.options import Commands

COMMANDS = {
    "ask": ("ask:ask", "The answer to QUESTION as a table, most recent rows last."),
    "check": ("account:check", ""),
    "dead-letters": ("dead_letters:dead_letters_group", ""),
    "digest": ("account:digest", ""),
    "erase": ("erase:erase_command", ""),
    "export": ("copies:export_table", ""),
    "instances": ("instances:instances_group", ""),
    "load": ("recovery:load", ""),
    "mend-clock": ("recovery:mend_clock_command", ""),
    "quarantine": ("quarantine:quarantine_group", ""),
    "rebuild": ("recovery:rebuild", ""),
    "serve": ("serve:serve", ""),
    "snapshot": ("copies:take_snapshot", ""),
    "status": ("account:status", ""),
}
"""By name: the module in this package and the command in it, and the line that `--help` shows."""


class LazyCommands(Commands):
    """A group that imports a command when it is run, not when its line is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in order."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None when there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"receiver.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without their modules."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyCommands)
def main() -> None:
    """Receive telemetry batches into a DuckDB file. Without a command: serve.

    `status`, `check` and `snapshot` open the warehouse themselves while no server has it, and ask the server that has
    it otherwise; so does `erase`. `ask` and `export` read the snapshot then. The other commands that change something
    need the server stopped.
    """
