"""The receiver's commands, by name. The module of a command is imported when it runs, so `--help` costs nothing."""

from importlib import import_module

import click

from receiver.cli.options import Commands

COMMANDS = {
    "ask": (
        "ask:ask",
        "Ask the warehouse a question: `ask --list` names them all, `ask --card QUESTION` explains one.",
    ),
    "check": (
        "account:check",
        "Compare the sums and read every record of the landfill; exit 1 when something does not agree or is damaged.",
    ),
    "dead-letters": (
        "dead_letters:dead_letters_group",
        "Events that could not be loaded, while the rest of their batch was.",
    ),
    "digest": ("account:digest", "One digest over all events, batches and reports: equal before and after a rebuild."),
    "erase": ("erase:erase_command", "Remove instances or profiles for good, and print a receipt for each."),
    "export": (
        "copies:export_table",
        "Write a table as Parquet, one folder a day: FOLDER/events/tracked_on=YYYY-MM-DD/part-0.parquet.",
    ),
    "instances": ("instances:instances_group", "Who sends, and which key signs for whom."),
    "load": (
        "recovery:load",
        "Load POST bodies from files (- for standard input), as if they had come by HTTP; one receipt a line.",
    ),
    "mend-clock": (
        "recovery:mend_clock_command",
        "Stamp receipts of the future with the time of now, in their order, and make the warehouse anew.",
    ),
    "quarantine": ("quarantine:quarantine_group", "Bodies that could not be loaded."),
    "rebuild": (
        "recovery:rebuild",
        "Make the warehouse anew from the landfill, then put it in the old one's place in one step.",
    ),
    "serve": ("serve:serve", "Take batches by HTTP until SIGTERM, then finish what was accepted and exit 0."),
    "snapshot": ("copies:take_snapshot", "Publish a copy of the warehouse that others read while a server writes."),
    "status": ("account:status", "What came, what became of it, what senders lost, and whether the sums agree."),
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
