from collections.abc import Iterator

import click
from click.testing import CliRunner

from cli.__main__ import COMMANDS, tollwire

COLUMNS = 80


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(tollwire, list(arguments))
    return result.exit_code, result.output


def test_every_command_of_the_table_can_be_imported_and_has_help():
    for name in COMMANDS:
        code, output = run(name, "--help")
        assert code == 0, output
        assert "Usage: " in output


def test_help_lists_the_commands_in_the_order_of_the_table():
    _, output = run("--help")
    places = [output.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_no_summary_of_a_command_is_cut_where_a_terminal_is_narrow():
    assert list(cut(tollwire, COLUMNS)) == []


def cut(group: click.Group, columns: int) -> Iterator[str]:
    """The summaries that end in dots, of a group and all below it."""
    context = click.Context(group)
    names = group.list_commands(context)
    # As click lays its list out: two columns are left free, two spaces stand before the names and two behind
    # them, and two more are not used.
    room = columns - 2 - 6 - max(map(len, names))
    for name in names:
        command = group.get_command(context, name)
        assert command is not None
        if command.get_short_help_str(room).endswith("..."):
            yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {below}" for below in cut(command, columns))


def test_a_mistyped_command_is_answered_with_the_right_one():
    code, output = run("stauts")
    assert code == 2
    assert "Did you mean 'status'?" in output


def test_an_unknown_command_is_refused():
    code, output = run("frobnicate")
    assert code == 2
    assert "No such command 'frobnicate'" in output
