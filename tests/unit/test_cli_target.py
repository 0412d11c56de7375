"""Which API a command talks to, with which key; and how a failure reads."""

import json
from pathlib import Path

import msgspec
import pytest

from api.problems import FieldError, Refusal
from cli.failures import Exit, Failure, Refused, Unreachable
from cli.home import Home, State
from cli.target import KeyFile, Target, find_target
from shared.domain.problems import ProblemCode


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "demo.key").write_text("tw_demo\n")
    (tmp_path / "admin.key").write_text("tw_admin\n")
    return {"TOLLWIRE_HOME": str(tmp_path)}


def test_options_win_over_the_environment_and_that_over_the_home(home):
    named = home | {"TOLLWIRE_API_URL": "http://named:1/", "TOLLWIRE_API_KEY": "tw_named"}
    assert find_target("http://given", "tw_given", named, KeyFile.DEMO) == Target("http://given", "tw_given")
    assert find_target("", "", named, KeyFile.DEMO) == Target("http://named:1", "tw_named")
    assert find_target("http://given", "", home, KeyFile.ADMIN) == Target("http://given", "tw_admin")
    assert find_target("http://given", "", home, KeyFile.DEMO) == Target("http://given", "tw_demo")


def test_it_is_told_where_the_key_came_from(home, tmp_path):
    named = home | {"TOLLWIRE_API_KEY": "tw_named"}
    admin = tmp_path / "admin.key"
    hints = [
        find_target("http://given", option, environ, kind).key_hint
        for option, environ, kind in (
            ("tw_given", named, KeyFile.ADMIN),
            ("", named, KeyFile.ADMIN),
            ("", home, KeyFile.ADMIN),
            ("", home, None),
        )
    ]
    assert hints == [
        "The key is that of --api-key.",
        f"The key is that of TOLLWIRE_API_KEY; without it, {admin} is used. --api-key names another.",
        f"The key is that in {admin}; --api-key or TOLLWIRE_API_KEY names another.",
        "",
    ]
    admin.unlink()
    hint = find_target("http://given", "", named, KeyFile.ADMIN).key_hint
    assert hint == "The key is that of TOLLWIRE_API_KEY. --api-key names another."


def test_without_an_instance_and_a_name_it_says_how_to_get_one(home):
    with pytest.raises(Unreachable, match="No Tollwire runs in") as caught:
        find_target("", "", home, KeyFile.DEMO)
    assert caught.value.exit_code == Exit.UNREACHABLE


def test_where_the_servers_run_alone_it_is_not_said_that_nothing_runs(tmp_path):
    running = Home(tmp_path / "home")
    running.make()
    running.write_state(State(phase="running"))
    with running.lock, pytest.raises(Unreachable, match="runs without services") as caught:
        find_target("", "", {"TOLLWIRE_HOME": str(running.path)}, KeyFile.DEMO)
    assert "down`, then `" in caught.value.hint


def test_without_a_key_it_says_how_to_name_one(tmp_path):
    with pytest.raises(Failure, match="No API key") as caught:
        find_target("http://given", "", {"TOLLWIRE_HOME": str(tmp_path)}, KeyFile.ADMIN)
    assert caught.value.exit_code == Exit.UNAUTHORIZED
    assert find_target("http://given", "", {"TOLLWIRE_HOME": str(tmp_path)}, None).key == ""


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://"])
def test_an_address_that_is_no_url_is_wrong_use(url, home):
    with pytest.raises(Failure) as caught:
        find_target(url, "", home, KeyFile.DEMO)
    assert caught.value.exit_code == Exit.USAGE


def test_a_key_shows_in_no_repr():
    assert "secret" not in repr(Target("http://x", "tw_secret"))


def refused() -> Refused:
    errors = [FieldError("to", "must be a number"), FieldError("text", "is required")]
    refusal = Refusal(ProblemCode.VALIDATION_FAILED, summary="to: must be a number", errors=errors)
    return Refused(refusal.problem("r1"))


def test_a_problem_reads_as_its_title_its_detail_and_its_fields_once(capsys):
    refused().show(as_json=False)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert [line.strip() for line in seen.err.splitlines()] == [
        "The request is not valid",
        "to: must be a number",
        "text: is required",
        "validation_failed (422)",
    ]


def test_every_line_of_a_failure_stands_below_its_title(capsys):
    Failure("Settings are wrong.", detail="A is missing\nB is missing", hint="Set A.\nSet B.").show(
        as_json=False
    )
    assert capsys.readouterr().err.splitlines() == [
        "Settings are wrong.",
        "  A is missing",
        "  B is missing",
        "  Set A.",
        "  Set B.",
    ]


def test_for_programs_it_is_the_problem_itself_with_the_exit_code(capsys):
    refused().show(as_json=True)
    document = json.loads(capsys.readouterr().err)
    problem = msgspec.to_builtins(refused().problem)
    assert document == problem | {"exit_code": 1}
