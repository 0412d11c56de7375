import json
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.fingerprint import canonical_json, fingerprint

scalars = st.none() | st.booleans() | st.integers(-(2**64) + 1, 2**64 - 1) | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
bodies = st.dictionaries(st.text(max_size=8), values, max_size=6)


def shuffled(value: Any, random: Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    random.shuffle(keys)
    return {key: shuffled(value[key], random) for key in keys}


def typed(value: Any) -> Any:
    """Tell True from 1, which Python calls equal."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value), value)


@given(bodies, st.randoms(use_true_random=False))
def test_the_order_of_keys_makes_no_difference(body, random):
    other = shuffled(body, random)
    assert canonical_json(other) == canonical_json(body)
    assert fingerprint("POST", "/v1/messages", other) == fingerprint("POST", "/v1/messages", body)


@given(values, values)
def test_two_values_have_one_spelling_exactly_when_they_are_equal(one, other):
    assert (canonical_json(one) == canonical_json(other)) == (typed(one) == typed(other))


@given(values)
def test_the_spelling_is_json_of_the_very_value(value):
    assert typed(json.loads(canonical_json(value))) == typed(value)
