"""The command line of ``relieve``: its options, and how each wrong use becomes one line and exit status 2."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from relieve_py.cli.failures import WrongUse
from relieve_py.cli.inputs import open_source
from relieve_py.cli.script import prepare_path, read_script, read_target
from relieve_py.cpus import usable_cpus

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _seconds(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A finite number of seconds above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0.", context, parameter)
    return value


_COUNT = click.IntRange(min=1)

_launcher = click.option(
    "--launcher", default="forkserver", show_default=True, metavar="NAME", help="How children come to be."
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress line.")
_null = click.option("-0", "--null", is_flag=True, help="Inputs on standard input end with NUL, not with a newline.")


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relieve-py", message="%(prog)s %(version)s")
def relieve() -> None:
    """Give work to supervised child processes: one that dies costs the call it was running, and nothing hangs."""


@relieve.command("map", short_help="Call a function once per input.")
@click.argument("target", metavar="SCRIPT[:FUNCTION]")
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@click.option("-n", "size", type=_COUNT, metavar="N", help="Children; as many as there are usable processors.")
@click.option(
    "--timeout",
    type=float,
    callback=_seconds,
    metavar="SECONDS",
    help="How long one call may take.  [default: for ever]",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="How often an input is tried again whose child died. What the function raises is not tried again.",
)
@click.option("--strategy", default="round-robin", show_default=True, metavar="NAME", help="Chooses the child.")
@_launcher
@click.option("--unordered", is_flag=True, help="Results as they come, not in the order of the inputs.")
@click.option("--json", "as_json", is_flag=True, help="Each result as a line of JSON.")
@_null
@_quiet
def map_command(target: str, inputs: tuple[str, ...], size: int | None, quiet: bool, null: bool, **options: Any) -> int:
    """Call FUNCTION of SCRIPT once per INPUT, in several children, and print the results.

    SCRIPT is a path or a dotted module; without FUNCTION its default function is called. Without INPUT each line
    of standard input is one; they are read only as far as they are needed, so their number does not matter.

    A result is a line on standard output, in the order of the inputs: text and bytes as they are, None as an empty
    line, and all else as Python would show it. An input that failed is a line on standard error, with its number,
    and none on standard output. What the function prints goes to standard error.

    The exit status is 0 if no input failed, 1 if one did, 2 for wrong use, and 130 after Ctrl-C: once takes no more
    inputs and lets running calls finish, twice leaves at once.
    """
    from relieve_py.cli.mapping import MapOptions, MapSession

    wanted = read_target(target)
    source = open_source(inputs, null)
    prepare_path([wanted.script])
    chosen = MapOptions(size=size or usable_cpus(), **options)
    return MapSession(wanted, source, chosen, progress=not quiet).run()


@relieve.command("run", short_help="Keep scripts running.")
@click.argument("scripts", metavar="SCRIPT...", nargs=-1, required=True)
@click.option(
    "--restart",
    type=click.Choice(["never", "on-failure", "always"]),
    default="on-failure",
    show_default=True,
    help="When a script that ended is started again.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="A script that dies more often within a minute has failed.",
)
@click.option("-n", "copies", type=_COUNT, default=1, show_default=True, metavar="N", help="Copies of each script.")
@_launcher
def run_command(scripts: tuple[str, ...], **options: Any) -> int:
    """Run each SCRIPT as a program, start it again when it ends, and show what it prints behind its name.

    SCRIPT is a path or a dotted module. Lines with a | are the script's own, on the stream that it chose; those with
    a * are about it.

    Ctrl-C or SIGTERM lets the scripts finish, the second one leaves at once. The exit status is 0 if all ended well,
    1 if one failed, and 2 for wrong use.
    """
    from relieve_py.cli.running import RunOptions, RunSession

    found = [read_script(script) for script in scripts]
    prepare_path(found)
    return RunSession(found, RunOptions(**options)).run()


@relieve.command("queue", short_help="Run a script once per argument.")
@click.argument("script", metavar="SCRIPT")
@click.argument("arguments", metavar="[ARG]...", nargs=-1)
@click.option("-c", "concurrency", type=_COUNT, metavar="N", help="Runs at a time; as many as usable processors.")
@_launcher
@_null
@_quiet
def queue_command(
    script: str, arguments: tuple[str, ...], concurrency: int | None, null: bool, quiet: bool, launcher: str
) -> int:
    """Run SCRIPT as a program once per ARG, which it finds as sys.argv[1], and print a table of exits.

    SCRIPT is a path or a dotted module. Without ARG each line of standard input is one.

    The exit status is 0 if every run ended with 0, 1 if one did not, 2 for wrong use, and 130 after Ctrl-C: once
    starts no more runs and lets running ones finish, twice leaves at once.
    """
    from relieve_py.cli.queueing import QueueOptions, QueueSession

    found = read_script(script)
    source = open_source(arguments, null)
    prepare_path([found])
    chosen = QueueOptions(concurrency=concurrency or usable_cpus(), launcher=launcher)
    return QueueSession(found, source, chosen, progress=not quiet).run()


@relieve.command("top", short_help="Show the workers of running programs.")
@click.argument("pid", type=click.IntRange(min=1), required=False)
@click.option("--once", is_flag=True, help="One picture, and the end: so it is when standard output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Each program as a line of JSON, and the end.")
@click.option(
    "--interval",
    type=float,
    default=1.0,
    callback=_seconds,
    show_default=True,
    metavar="SECONDS",
    help="Between two pictures.",
)
def top_command(**options: Any) -> int:
    """Show the workers of the program PID, or of all programs of yours that let you, with their tasks: state,
    processor time, memory, calls, and percentiles of how long they took.

    A program that was started with RELIEVE_TOP=1 in its environment shows all its workers; any program shows those
    for which it calls worker.publish(). Only its own user can look, and nothing can be changed.

    q ends it. The exit status is 0 then and when the program has ended, 130 after Ctrl-C, and 2 when there is no such
    program.
    """
    from relieve_py.cli.top import TopOptions, run_top

    return run_top(TopOptions(**options))


def run(args: Sequence[str] | None) -> int:
    """Run the command; its exit status."""
    try:
        status = relieve.main(args=args, prog_name="relieve", standalone_mode=False)
    except click.UsageError as error:
        return _wrong(error.ctx.command_path if error.ctx is not None else "relieve", error.format_message())
    except WrongUse as error:
        return _wrong("relieve", str(error), error.details)
    except click.Abort:
        return 130
    except BrokenPipeError:  # who read the help has enough
        return 0
    return status if isinstance(status, int) else 0


def _wrong(command: str, message: str, details: Sequence[str] = ()) -> int:
    line = " ".join(message.split())
    sys.stderr.write("".join(f"{text}\n" for text in (f"{command}: {line}", *(f"  {detail}" for detail in details))))
    return 2
