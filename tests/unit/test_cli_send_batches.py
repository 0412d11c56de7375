"""Batches of a file and their idempotency keys: the same file and run, the same batches and keys."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from api.routing import BATCH_MAX_BYTES
from api.schemas import CLIENT_REF_MAX
from cli.csv_messages import CsvMessage
from cli.send_batches import BATCH_MAX, PROBES, batch_key, client_ref, cut, run_id
from shared.domain.idempotency import parse_idempotency_key

texts = st.one_of(st.text(max_size=50), st.integers(1, 40_000).map(lambda count: "\n" * count))


def messages_of(texts_: list[str]) -> list[CsvMessage]:
    return [CsvMessage(line, "+4915112345678", text) for line, text in enumerate(texts_, 2)]


@given(st.lists(texts, max_size=300), st.integers(1, BATCH_MAX))
def test_batches_hold_every_row_once_in_order_and_fit_into_a_request(texts_, batch_size):
    messages = messages_of(texts_)
    batches = list(cut(messages, batch_size))
    assert [row for batch in batches for row in batch.messages] == messages
    assert [batch.index for batch in batches] == list(range(len(batches)))
    assert all(len(batch.messages) == 1 for batch in batches[:PROBES])
    for batch in batches:
        assert messages[batch.first] == batch.messages[0]
        assert 1 <= len(batch.messages) <= batch_size
        common = {"from": "ACME", "lane": "express", "client_ref": "x" * CLIENT_REF_MAX}
        body = {"messages": [{**common, "to": row.to, "text": row.text} for row in batch.messages]}
        assert len(msgspec.json.encode(body)) < BATCH_MAX_BYTES


def test_short_texts_are_cut_by_their_number_alone():
    sizes = [len(batch.messages) for batch in cut(messages_of(["a"] * 1_050), 500)]
    assert sizes == [1, 1, 1, 1, 1, 500, 500, 45]


def test_a_key_depends_on_the_file_the_run_and_the_batch_and_is_one_that_the_api_takes():
    keys = {
        batch_key(run_id(sha256, run), index)
        for sha256 in ("a" * 64, "b" * 64)
        for run in ("", "again")
        for index in (0, 1)
    }
    assert len(keys) == 8
    assert all(parse_idempotency_key(key) == key for key in keys)
    # What is out there under way: a change of the derivation would send files twice.
    assert batch_key(run_id("a" * 64, ""), 7) == "send-80d6f1d1cdd2e956f6c5de57-7"


def test_the_reference_of_a_row_names_the_cut_and_the_line():
    refs = {
        client_ref(run_id("a" * 64, ""), size, line) for size in (1, BATCH_MAX) for line in (2, 3_000_000)
    }
    assert len(refs) == 4
    assert all(len(ref) <= CLIENT_REF_MAX for ref in refs)
