"""Settings from the environment: every fault at once, in words that say what would be right."""

from enum import StrEnum
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from shared.runtime.server_settings import Common
from shared.runtime.settings import Process, SettingsError, describe, env_example, load

ENOUGH = {
    "TOLLWIRE_POSTGRES_DSN": "postgresql://tollwire_api:secret-word@db/tollwire",
    "TOLLWIRE_KEYRING_FILE": "/etc/tollwire/keyring.json",
}


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="A name.", min_length=2)]
    rate: Annotated[float, Meta(ge=0)] = 1.5
    is_on: bool = False
    colour: Colour = Colour.RED
    networks: tuple[str, ...] = ("10.0.0.0/8", "192.168.0.0/16")
    ports: list[int] = msgspec.field(default_factory=list)
    limit: Annotated[int, Meta(le=9)] = 3
    word: Annotated[str, Meta(pattern="^a+$", extra={"secret": True})] = "a"


def test_a_field_is_read_from_its_variable() -> None:
    found = load(
        Example,
        {
            "TOLLWIRE_NAME": " ab ",
            "TOLLWIRE_RATE": "0.25",
            "TOLLWIRE_IS_ON": "true",
            "TOLLWIRE_COLOUR": "blue",
            "TOLLWIRE_NETWORKS": "10.1.0.0/16, ,10.2.0.0/16",
            "TOLLWIRE_PORTS": "1,2",
        },
    )
    assert found == Example(
        name="ab",
        rate=0.25,
        is_on=True,
        colour=Colour.BLUE,
        networks=("10.1.0.0/16", "10.2.0.0/16"),
        ports=[1, 2],
    )


def test_an_empty_value_counts_as_absent() -> None:
    assert load(Example, {"TOLLWIRE_NAME": "ab", "TOLLWIRE_RATE": " "}).rate == 1.5
    with pytest.raises(SettingsError, match="TOLLWIRE_NAME is missing"):
        load(Example, {"TOLLWIRE_NAME": ""})


def test_every_fault_is_named_with_its_value_and_what_would_be_right() -> None:
    wrong = {
        "TOLLWIRE_RATE": "fast",
        "TOLLWIRE_IS_ON": "maybe",
        "TOLLWIRE_COLOUR": "green",
        "TOLLWIRE_LIMIT": "12",
    }
    with pytest.raises(SettingsError) as caught:
        load(Example, wrong)
    assert caught.value.faults == (
        "TOLLWIRE_NAME is missing; it must be text",
        "TOLLWIRE_RATE: 'fast' is wrong; it must be a number of at least 0",
        "TOLLWIRE_IS_ON: 'maybe' is wrong; it must be true or false",
        "TOLLWIRE_COLOUR: 'green' is wrong; it must be one of red, blue",
        "TOLLWIRE_LIMIT: '12' is wrong; it must be a whole number of at most 9",
    )


def test_a_secret_is_not_shown_in_an_error() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, {"TOLLWIRE_NAME": "ab", "TOLLWIRE_WORD": "hush"})
    assert "hush" not in str(caught.value)
    assert "TOLLWIRE_WORD: the value (not shown) is wrong; it must be text that matches ^a+$" in str(
        caught.value
    )


@pytest.mark.parametrize("value", ["nan", "inf", "1" * 5000])
def test_a_number_is_finite_and_not_endless(value: str) -> None:
    with pytest.raises(SettingsError, match="TOLLWIRE_RATE"):
        load(Example, {"TOLLWIRE_NAME": "ab", "TOLLWIRE_RATE": value})


def test_the_shared_settings_need_a_database_and_a_keyring_and_nothing_else() -> None:
    assert load(Common, ENOUGH).postgres_pool_max == 25
    with pytest.raises(SettingsError) as caught:
        load(Common, {})
    assert [fault.split()[0] for fault in caught.value.faults] == list(ENOUGH)


def test_of_a_keyring_that_is_missing_it_is_told_how_to_make_one() -> None:
    with pytest.raises(
        SettingsError, match="it must be the path of a file that `tollwire keyring create FILE`"
    ):
        load(Common, {**ENOUGH, "TOLLWIRE_KEYRING_FILE": ""})


def test_a_wrong_dsn_is_answered_with_an_example() -> None:
    with pytest.raises(SettingsError, match="it must be like postgresql://ROLE:secret@"):
        load(Common, {**ENOUGH, "TOLLWIRE_POSTGRES_DSN": "mysql://db"})


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="TOLLWIRE_POSTGRES_POOL_MIN: 30 is wrong; it must not exceed"):
        load(Common, {**ENOUGH, "TOLLWIRE_POSTGRES_POOL_MIN": "30"})


def test_settings_show_no_secret_when_printed() -> None:
    shown = repr(load(Common, ENOUGH))
    assert "secret-word" not in shown
    assert "postgres_dsn=***" in shown
    assert "postgres_pool_max=25" in shown


def test_every_shared_setting_is_described() -> None:
    settings = describe(Common)
    assert all(setting.description for setting in settings)
    required = [setting.variable for setting in settings if setting.is_required]
    assert required == list(ENOUGH)
    assert {setting.variable for setting in settings if setting.is_secret} >= {
        "TOLLWIRE_POSTGRES_DSN", "TOLLWIRE_NATS_TOKEN", "TOLLWIRE_VALKEY_URL"
    }  # fmt: skip


def test_a_default_is_written_as_the_variable_would_hold_it() -> None:
    defaults = {setting.variable: setting.default for setting in describe(Example)}
    assert defaults == {
        "TOLLWIRE_NAME": None,
        "TOLLWIRE_RATE": "1.5",
        "TOLLWIRE_IS_ON": "false",
        "TOLLWIRE_COLOUR": "red",
        "TOLLWIRE_NETWORKS": "10.0.0.0/8,192.168.0.0/16",
        "TOLLWIRE_PORTS": "",
        "TOLLWIRE_LIMIT": "3",
        "TOLLWIRE_WORD": "a",
    }


def test_a_described_default_is_read_back_as_itself() -> None:
    environ = {setting.variable: setting.default for setting in describe(Common) if setting.default}
    assert load(Common, {**environ, **ENOUGH}) == load(Common, ENOUGH)


def test_the_example_file_names_each_variable_once_and_who_reads_it() -> None:
    text = env_example({"api": Common, "simulator": Process})
    assert text.count("TOLLWIRE_LOG_LEVEL=") == 1
    assert "# Read by every service. It is one of" in text
    assert "# Read by api. It is like postgresql://" in text
    assert "\nTOLLWIRE_KEYRING_FILE=\n" in text
    assert "\n# TOLLWIRE_LOG_LEVEL=info\n" in text
