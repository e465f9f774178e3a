"""The entry point: dispatches commands, prints errors, sets the exit status.

Exit status: 0 done, 1 something failed, 2 wrong usage, or an invalid registry or template.
"""

import os
import sys
from collections.abc import Sequence

from publisher.util.collector import collector_paused

with collector_paused():  # these imports dominate a run that has nothing to do
    import click

    import publisher
    from publisher.cli import building, console, editing, notes, publishing, serving, signing
    from publisher.cli.ci import ci
    from publisher.cli.options import DONE, FAILED, INTERRUPTED, USAGE
    from publisher.cli.verifying import verify
    from publisher.errors import PublisherError

# The commands of `publisher --help`, by heading.
COMMANDS = {
    "Core commands": (
        building.list_command,
        publishing.plan,
        building.build,
        publishing.publish,
    ),
    "Commands for a release": (
        editing.bump,
        editing.withdraw,
        signing.sign,
        notes.release_notes,
    ),
    "For users of models": (verify, serving.serve, serving.site),
    "For CI": (ci,),
}


class Sections(click.Group):
    """A command group with headings in its help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, with columns of equal width."""
        width = max(map(len, self.commands))
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (str(command.name).ljust(width), command.get_short_help_str(limit=100))
                        for command in commands
                    ]
                )


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`publisher COMMAND --help` describes a command's arguments.",
)
@click.version_option(publisher.__version__, prog_name="publisher")
def cli() -> None:
    """Publish BiT-ResNet checkpoints as checked, reproducible TensorFlow SavedModels.

    models.yaml states what should be published; these commands make it so.
    """


for _commands in COMMANDS.values():
    for _command in _commands:
        cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit status."""
    state = {"debug": False}
    try:
        status = cli.main(arguments, prog_name="publisher", standalone_mode=False, obj=state)
        sys.exit(status if isinstance(status, int) else DONE)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        console.print_error("interrupted; what is finished is kept, run the same command again")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output closed the pipe. Flushing at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except PublisherError as error:
        if state["debug"]:
            raise
        # One line for each problem.
        for line in str(error).splitlines():
            console.print_error(line)
        sys.exit(USAGE if error.wrong_input else FAILED)
    except OSError as error:
        if state["debug"]:
            raise
        where = error.filename or "standard output"
        console.print_error(f"{where}: {error.strerror or error}; check its space and permissions")
        sys.exit(FAILED)
    except Exception as error:
        if state["debug"]:
            raise
        console.print_error(
            f"{type(error).__name__}: {error}; this is a fault of the program: run again with"
            " --debug to see where, and report it"
        )
        sys.exit(FAILED)
