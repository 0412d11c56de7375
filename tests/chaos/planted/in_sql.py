# ruff: noqa: E501 - these are lines of the functions themselves, as long as they are there
"""Faults in the server's functions. Each is one that somebody could make, and most were made by somebody, somewhere."""

from typing import Final

from tests.chaos.planted.plant import Plant

IN_SQL: Final = (
    Plant(
        "lock order swapped", "tollwire.cancel_batch_v1",
        (
            ("        perform 1 from ledger.accounts where id = any (v_clients) order by id for update;\n", ""),
            ("from unnest(p_message) m;\n", "from unnest(p_message) m;\n    perform 1 from ledger.accounts where id = any (p_client) order by id for update;\n"),
        ),
        1,
    ),
    Plant(
        "locks in the order of the request", "tollwire.accept_batch_v1",
        (("where id = any (p_account) order by id for update", "where id = any (p_account) for update"),), 1,
    ),
    Plant(
        "accounts in the order of the request", "ledger.place_holds_v1",
        (("from generate_series(1, v_n) n order by p_account[n], n", "from generate_series(1, v_n) n order by n"),), 20,
    ),
    Plant(
        "the rest's money moves under no lock of all accounts", "tollwire.settle_batch_v1",
        (("        perform 1 from ledger.accounts where id = any (v_accounts) order by id for update;\n", ""),), 1,
    ),
    Plant(
        "a refusal's money moves under no lock of all accounts", "tollwire.record_batch_v1",
        (("        perform 1 from ledger.accounts where id = any (v_accounts) order by id for update;\n", ""),), 1,
    ),
    Plant(
        "a hold is looked for after money has moved", "ledger.expire_holds_v1",
        (
            ("    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;\n", ""),
            ("array_fill('no_receipt'::text, array[cardinality(f_id)]), 0) t;\n",
             "array_fill('no_receipt'::text, array[cardinality(f_id)]), 0) t;\n    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;\n"),
        ),
        1,
    ),
    Plant(
        "fence dropped: any dispatch number claims", "tollwire.claim_batch_v1",
        (
            (" or a.wanted <> a.dispatch_no then 'stale'", " then 'stale'"),
            ("select array_agg(x.dispatch_no) = v_dispatch and bool_and(", "select bool_and("),
        ),
        100,
    ),
    Plant(
        "a claim after the validity", "tollwire.claim_batch_v1",
        (("when a.valid_until <= v_now then 'expired'", ""), ("and m.number = v_n and m.is_valid and", "and m.number = v_n and")),
        20,
    ),
    Plant(
        "a suspended client's message is claimed", "tollwire.claim_batch_v1",
        (
            ("when a.suspended then 'suspended'", ""),
            ("and not exists (select from tollwire.clients c where c.id = any (m.client_id) and c.suspended)", ""),
        ),
        60,
    ),
    Plant(
        "a claim that is made again is lost", "tollwire.claim_batch_v1",
        (("when a.ours then null", "when a.ours then 'stale'"),), 40,
    ),
    Plant(
        "parts that were taken go again", "tollwire.claim_batch_v1",
        (("t.attempt_no < j.claimed_no and t.outcome = 'submitted'", "t.attempt_no < 0"),), 60,
    ),
    Plant(
        "lease forgotten at the accept", "tollwire.accept_batch_v1",
        (("case when due then least(v_now + p_lease_seconds * interval '1 second', valid_until)", "case when due then v_now"),), 10,
    ),
    Plant(
        "key not looked up in the older partition", "tollwire.accept_batch_v1",
        (("k.slot >= v_slot - c_slots_kept", "k.slot >= v_slot"),), 200,
    ),
    Plant(
        "a refusal is not remembered", "tollwire.accept_batch_v1",
        (("v_outcome[n] in ('accepted', 'refused')", "v_outcome[n] = 'accepted'"),), 60,
    ),
    Plant(
        "a key answers for another request", "tollwire.accept_batch_v1",
        (("if r.known_fingerprint <> r.fingerprint then", "if false then"),), 30,
    ),
    Plant(
        "the same id twice in a call is two messages", "tollwire.accept_batch_v1",
        (("elsif r.first_nth < r.nth then", "elsif false then"), ("count(distinct p_message[n]) = v_n", "true")), 20,
    ),
    Plant(
        "running sum over refused", "ledger.place_holds_v1",
        (
            (
                "v_available := v_posted - v_held + v_limit;",
                "v_available := v_posted - v_held + v_limit - coalesce((select sum(p_amount[i]) from generate_series(1, r.nth - 1) i where p_account[i] = r.account_id and v_problem[i] is not null), 0);",
            ),
        ),
        100,
    ),
    Plant(
        "credit is not looked at", "ledger.place_holds_v1",
        (("elsif r.amount > v_available and r.amount > 0 then", "elsif false then"),), 20,
    ),
    Plant("version gap", "ledger.post_credit_v1", (("a.version := a.version + 1;", "a.version := a.version + 2;"),), 5),
    Plant(
        "a reference posts twice", "ledger.post_credit_v1",
        (("and reference = p_reference;\n    if found then", "and reference = p_reference;\n    if false then"),), 20,
    ),
    Plant(
        "capture without state check", "ledger.settle_holds_v1",
        (("else t.state = 'HELD' end", "else true end"),), 300,
    ),
    Plant(
        "overdrawn forgotten", "ledger.settle_holds_v1",
        (("greatest(0, -(a_posted[i] - a_held[i] + a.credit_limit_micros))", "a.overdrawn_micros"),), 300,
    ),
    Plant(
        "token not asked for when an outcome is recorded", "tollwire.record_rest_v1",
        (("s.attempt_no = x.attempt_no as holds_token", "true as holds_token"),), 200,
    ),
    Plant(
        "at_most_once is sent again", "tollwire.record_rest_v1",
        (("r.delivery = 'at_least_once' and not v_used_up", "not v_used_up"),), 40,
    ),
    Plant(
        "at_least_once is sent again and again", "tollwire.record_rest_v1",
        ((" and not v_used_up)", ")"),), 200,
    ),
    Plant(
        "possible_duplicate not set", "tollwire.record_rest_v1",
        (("then r.outcome = 'uncertain' and not p_ask_again and", "then false and"),), 40,
    ),
    Plant(
        "what went once stays marked as gone twice", "tollwire.end_taken_v1",
        (("(p_error = 'restored' or tollwire.may_be_twice_v1(s.message_id))", "true"),), 300,
    ),
    Plant(
        "dispatch number does not rise after an outcome", "tollwire.record_rest_v1",
        (("dispatch_no = o.dispatch_no + 1, leased_at = null", "leased_at = null"),), 20,
    ),
    Plant(
        "dispatch number does not rise", "tollwire.dispatch_due_v1",
        (("then o.dispatch_no else o.dispatch_no + 1 end", "then o.dispatch_no else o.dispatch_no end"),), 30,
    ),
    Plant(
        "published again though it is in the stream", "tollwire.dispatch_due_v1",
        (("coalesce(o.incarnation = p_incarnation and", "coalesce(false and"),), 100,
    ),
    Plant(
        "a claim is taken over before its deadline", "tollwire.look_due_v1",
        (("s.claim_deadline + c_margin <= v_now then 'recover'", "true then 'recover'"),), 60,
    ),
    Plant(
        "the wait for a receipt starts at the hold", "ledger.expire_holds_v1",
        (
            ("where s.submitted_at + k.no_receipt_seconds", "where l.held_at + k.no_receipt_seconds"),
        ),
        300,
    ),
    Plant(
        "cancelled though a carrier may have it", "tollwire.cancel_batch_v1",
        (("and (s.attempt_no = 0 or not exists (", "and (true or not exists ("),), 200,
    ),
    Plant(
        "receipt matched to another carrier's message", "tollwire.match_receipts_v1",
        (("where f.carrier_id = k.carrier_id and f.reference", "where f.reference"),), 40,
    ),
    Plant(
        "receipt matched to the wrong part", "tollwire.match_receipts_v1",
        (("(c.message_id is null or c.open_count > 1 or", "(coalesce(c.open_count, 0) <> 1 or"), ("o.part_no <> a.part_no", "false")), 200,
    ),
    Plant(
        "what a receipt echoes is overheard", "tollwire.match_receipts_v1",
        (("(c.message_id is null or c.open_count > 1 or c.message_id <> k.echo_message_id)", "(c.message_id is null or c.open_count > 1)"),), 600,
    ),
    Plant(
        "a part is guessed from the message's id", "tollwire.match_receipts_v1",
        (("o.part_no <> a.part_no", "false"),), 300,
    ),
    Plant(
        "ambiguous is guessed", "tollwire.match_receipts_v1",
        (("when y.open_count > 1 then 'ambiguous'", ""),), 200,
    ),
    Plant(
        "a receipt is noted on every part", "tollwire.settle_rest_v1",
        (("where a.message_id = r.message_id and a.part_no = r.part_no\n", "where a.message_id = r.message_id\n"),), 30,
    ),
    Plant(
        "a late receipt is told again and again", "tollwire.settle_rest_v1",
        (("set late_receipt = true, sequence", "set sequence"),), 300,
    ),
    Plant(
        "delivered in part is delivered", "tollwire.settle_rest_v1",
        (("if r.delivered >= r.parts_total then", "if r.delivered > 0 then"),), 40,
    ),
    Plant(
        "a receipt before the answer does not charge the submit", "tollwire.settle_rest_v1",
        (("if r.pays_submit then", "if false then"),), 40,
    ),
    Plant(
        "the last word on what waits to be asked again is forgotten", "tollwire.settle_rest_v1",
        (("(r.over > 0 or", "(false or"),), 100,
    ),
    Plant(
        "what was accepted before is sent again", "tollwire.record_rest_v1",
        (("if v_taken and (r.holds_token or r.state in ('QUEUED', 'FAILED_TEMP', 'UNKNOWN')) then", "if false then"),), 300,
    ),
    Plant(
        "a late answer does not move what is unknown", "tollwire.record_rest_v1",
        (("r.state in ('QUEUED', 'FAILED_TEMP', 'UNKNOWN') then not v_taken", "r.state in ('QUEUED', 'FAILED_TEMP') then not v_taken"),), 600,
    ),
    Plant(
        "a part that may have left goes again with one that did not", "tollwire.record_rest_v1",
        (("coalesce(a.outcome, 'uncertain') = 'uncertain')", "false)"),), 300,
    ),
    Plant(
        "double callback: what is done is due again", "tollwire.record_callbacks_v1",
        (("and c.done_at is null and c_attempt", "and c_attempt"),), 40,
    ),
    Plant(
        "callbacks are not leased", "tollwire.lease_callbacks_v1",
        (("set due_at = v_now + p_lease_seconds * interval '1 second', is_leased", "set due_at = c.due_at, is_leased"),), 10,
    ),
    Plant("an end overtakes its submit", "tollwire.load_callbacks_v1", (("then 'behind' end", "then null end"),), 40),
    Plant("a submit that nobody has begun is told after the end", "tollwire.end_messages_v1",
          (("if array_remove(f_sent, null) <> '{}' then", "if false then"),), 10),
    Plant("no callback at the end", "tollwire.end_messages_v1", (("where a.callback_id is not null order by", "where false order by"),), 5),
    Plant(
        "the outbox row outlives the message", "tollwire.end_messages_v1",
        (("delete from tollwire.outbox where message_id = any (m_id)", "delete from tollwire.outbox where false"),), 5,
    ),
)  # fmt: skip
