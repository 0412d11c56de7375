"""Whatever is typed, a command ends with an exit code and a sentence, never with a traceback."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.__main__ import COMMANDS, tollwire
from cli.events import moment_of
from cli.failures import Exit, Failure
from cli.words import part, refuse_undecodable

# An id, what is not UTF-8 (as Python gets it), brackets without an address, nothing, a name of many parts.
TYPED = (
    "01939d2e-0000-7000-8000-000000000000",
    "\udcff",
    "http://[::1",
    "postgresql://[::1",
    "",
    "a/../b?c#d",
)
# Nobody listens there, and no answer is waited for.
API = ("--api-url", "http://127.0.0.1:9", "--api-key", "x")
DSN = ("--dsn", "postgresql://127.0.0.1:9/x")


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command below a group that asks an API or a database, and the words that name it."""
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        elif found is not None and {"api_key", "dsn"} & {one.name for one in found.params}:
            yield (*path, name), found


def typed(command: click.Command, target: click.Parameter, text: str) -> list[str]:
    """The command's words with this text for one of its parameters, and something for each that it needs."""
    names = {one.name for one in command.params}
    words = list(API if "api_key" in names else DSN)
    arguments = []
    for one in command.params:
        value = text if one is target else "2026-11-21"
        if isinstance(one, click.Argument):
            arguments += [value] if one is target or one.required else []
        elif one is target or one.required:
            words += [one.opts[0], value]
    return [*words, "--", *arguments]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "listen"])
def test_no_word_leads_to_a_traceback(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = tollwire.get_command(click.Context(tollwire), name)
    assert found is not None
    tree = click.Group("all", {name: found})
    runner = CliRunner()
    for path, command in commands(tree, ()):
        for target in command.params:
            for text in () if getattr(target, "is_flag", False) else TYPED:
                done = runner.invoke(tree, [*path, *typed(command, target, text)])
                assert isinstance(done.exception, SystemExit | None), (path, target.name, text)


def test_what_is_not_utf_8_is_named():
    with pytest.raises(Failure, match=r"Callback host is not UTF-8\.") as caught:
        refuse_undecodable({"path": Path("\udcff"), "limit": 5, "callback_host": ("a", "\udcff")})
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("text", ["soon", "0001-01-01", "9999-12-31T23:59:59-14:00", "2026-13-01"])
def test_a_time_that_nobody_means_is_told_before_anything_is_done(text):
    with pytest.raises(Failure) as caught:
        moment_of(text)
    assert caught.value.exit_code == Exit.USAGE
    assert moment_of("2026-11-21").isoformat() == "2026-11-21T00:00:00+00:00"


def test_a_time_is_taken_as_it_stands_in_the_log_of_postgresql():
    assert moment_of("2026-11-22 19:11:49.933 UTC").isoformat() == "2026-11-22T19:11:49.933000+00:00"
    with pytest.raises(Failure, match="is no time"):
        moment_of("2026-11-22 19:11:49+01:00 UTC")


def test_a_name_is_one_part_of_a_path():
    assert part("a/b?c#d") == "a%2Fb%3Fc%23d"
    with pytest.raises(Failure, match="empty"):
        part("")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("credit", "add", "acme", "-5"),
            "A top-up is above zero; `tollwire credit adjust` takes credit away.",
        ),
        (("credit", "add", "acme", "-.50"), "A top-up is above zero; `tollwire credit adjust` takes"),
        (("rate", "set", "49", "-1.00"), "A price is not below zero; `tollwire rate remove` ends a rate."),
        (("credit", "add", "acme", "--amuont", "5"), "No such option '--amuont'."),
        (("credit", "add", "acme", "-x"), "No such option '-x'."),
    ],
)
def test_an_amount_below_zero_is_no_unknown_option(words, told):
    done = CliRunner().invoke(tollwire, [*words, *API])
    assert done.exit_code == Exit.USAGE
    assert told in done.output


@pytest.mark.parametrize(
    "words",
    [
        ("send", "+49151", "hi", "--api-key", ""),
        ("send", "+49151", "hi", "--api-url", " "),
        ("send", "+49151", "hi", "--idempotency-key", ""),
        ("send", "--csv", "a.csv", "--run", ""),
        ("credit", "add", "acme", "5", "--reference", ""),
        ("key", "create", "acme", "--expires-at", ""),
        ("ledger", "verify", "--dsn", ""),
        ("pii", "erase", "+49151", "--dsn", ""),
        ("migrate", "--dsn", ""),
        ("bootstrap", "--simulator", ""),
        ("events", "replay", "--since", "2026-11-21", "--until", ""),
    ],
)
def test_an_option_that_is_given_empty_is_not_taken_for_one_that_is_not_given(words):
    done = CliRunner(env={"TOLLWIRE_API_KEY": "x", "TOLLWIRE_API_URL": "http://127.0.0.1:9"}).invoke(
        tollwire, words
    )
    assert done.exit_code == Exit.USAGE
    assert f"{words[-2]} is empty." in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("+49151", "hi", "--timeout", "5"), "--timeout says how long --wait waits"),
        (("--csv", "a.csv", "--timeout", "5"), "--timeout says how long --wait waits"),
        (("--csv", "a.csv", "--timeout", "500"), "--timeout says how long --wait waits"),
        (("+49151", "hi", "--batch-size", "500"), "--batch-size is for a file"),
        (("--csv", "a.csv", "--client-ref", ""), "--client-ref is for a single message"),
        (("+49151", "hi", "--strict"), "--strict is for a file"),
        (("+49151", "hi", "--batch-size", "7"), "--batch-size is for a file"),
        (("+49151", "hi", "--run", "a"), "--run is for a file"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words, told):
    done = CliRunner().invoke(tollwire, ["send", *words, *API])
    assert done.exit_code == Exit.USAGE
    assert told in done.output


def test_a_file_that_is_not_there_is_not_said_to_want_columns(tmp_path: Path) -> None:
    done = CliRunner().invoke(tollwire, ["send", "--csv", str(tmp_path / "no.csv"), *API])
    assert done.exit_code == Exit.USAGE
    assert [line.strip() for line in done.output.splitlines()] == [
        f"{tmp_path / 'no.csv'} cannot be sent.", "No such file or directory", "Nothing was sent.",
    ]  # fmt: skip


def test_an_example_changes_nothing_for_good():
    """`client set --suspend` ends what waits; whoever pastes an example tries it on a client that sends."""
    assert (
        "acme --messages-per-second 50 --suspend"
        not in CliRunner().invoke(tollwire, ["client", "set", "--help"]).output
    )


@pytest.mark.parametrize("words", [("key", "create"), ("key", "list")])
def test_a_key_is_of_a_client_or_of_an_operator(words):
    done = CliRunner().invoke(tollwire, [*words, "acme", "--operator", *API])
    assert (done.exit_code, "not both" in done.output) == (Exit.USAGE, True)
