from click.testing import CliRunner

from cli.__main__ import COMMANDS, tollwire


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


def test_a_mistyped_command_is_answered_with_the_right_one():
    code, output = run("stauts")
    assert code == 2
    assert "Did you mean 'status'?" in output


def test_an_unknown_command_is_refused():
    code, output = run("frobnicate")
    assert code == 2
    assert "No such command 'frobnicate'" in output
