# ruff: noqa: E501 - these are lines of the functions themselves, as long as they are there
"""Faults in the oracle alone: no database differs, so only the invariants can find them."""

from typing import Final

from tests.chaos.planted.plant import Plant

IN_ORACLE: Final = (
    Plant(
        "a claim wins what is being sent", "sending:_refusal",
        (('not message.knows("claimed")', "message.final_us is not None"),), 200,
    ),
    Plant("a claim keeps the old token", "sending:_take", (("message.attempt_no += 1", "message.attempt_no = 1"),), 50),
    Plant(
        "at_most_once is sent again", "sending:_next",
        (('(message.delivery == "at_least_once" and not is_used_up)', "not is_used_up"),), 200,
    ),
    Plant(
        "at_least_once is sent again and again", "sending:_next",
        ((" and not is_used_up)", ")"),), 3_000,
    ),
    Plant("possible_duplicate not set", "sending:_move", (("message.is_possible_duplicate |= ", "message.is_late |= False and "),), 200),
    Plant(
        "a submit that moves nothing forgets the outbox", "sending:_wait",
        (("row.dispatch_no += 1", "t.outbox.pop(message.id)"),), 20,
    ),
    Plant("a late answer does not move what is unknown", "sending:_may_move",
          (("(S.QUEUED, S.FAILED_TEMP, S.UNKNOWN)", "(S.QUEUED, S.FAILED_TEMP)"),), 2_000),
    Plant("a part that may have left goes again with one that did not", "sending:_may_move",
          (('and not words & {None, "uncertain"}', ""),), 500),
    Plant("key not looked up in the older partition", "accepting:_known",
          (("slot - SLOTS_KEPT <= row[0] <= slot + 1", "row[0] == slot"),), 500),
    Plant("a hold ends twice", "tables:Tables.settle_hold", (('elif message.lock != "HELD":', "elif False:"),), 400),
    Plant("credit is not looked at", "accepting:_place",
          (("problem = owner.refuses(want.amount, want.max_price)", "problem = None"),), 20),
    Plant("version gap", "accepting:credit", (("    if answer", "    owner.version += 1\n    if answer"),), 5),
    Plant("the hold outlives the message", "tables:Tables.finish", (("if kind is not None:", "if kind == 'capture':"),), 5),
    Plant("captured though it was not delivered", "settling:_fold_one",
          (('_end(\n            t, message, event, "release"', '_end(\n            t, message, event, "capture"'),), 60),
    Plant("receipt matched to the wrong part", "settling:_match",
          (("_echoed(t, receipt, {r.message for r in found})", "[Place(receipt.echo_message, *key) for key, a in t.messages[receipt.echo_message].attempts.items() if a.outcome == 'submitted'][:1]"),), 300),
    Plant("what a receipt echoes is overheard", "settling:_match",
          (("is_clear = best is not None and len(opened) < 2 and receipt.echo_message in (None, best.message)", "is_clear = best is not None"),), 1_000),
    Plant("a receipt is put on an attempt of another name", "settling:_echoed",
          (("or _is_only_try(message, number, part)", "or True"), ("not a.is_unanswered, number, part)", "-number, number, part)"),
           ("for *_, number, part in sorted(fitting)]", "for *_, number, part in sorted(fitting)[:1]]")), 2_000),
    Plant("receipt matched to another carrier's message", "settling:_fits",
          (("(reference.carrier, reference.reference) == (receipt.carrier, receipt.reference)",
            "reference.reference == receipt.reference"),), 200),
    Plant("delivered in part is delivered", "settling:_fold_one", (("len(delivered) >= message.parts", "delivered"),), 60),
    Plant("a receipt that decides is not believed", "settling:_fold_one",
          (("if len(delivered) >= message.parts:", "if len(delivered) > message.parts:"),), 10),
    Plant("a receipt before the answer does not charge the submit", "settling:_fold",
          (('message.charge == "submitted" and', "False and"),), 1_000),
    Plant("no callback at the end", "tables:Tables.finish",
          (("told = self.add_callback(", "return None\n    told = self.add_callback("),), 5),
    Plant("an end overtakes its submit", "settling:_is_behind",
          (("return any(t.is_leased(c) for c in before)", "return False"),), 1_000),
    Plant("a late receipt overtakes the end", "settling:_is_behind", (("return bool(before)", "return False"),), 300),
    Plant("a callback that failed is forgotten", "settling:record_callbacks",
          (("callback.due_us = t.now + 30 * SECOND", "callback.due_us = t.now + 10**9 * SECOND"),), 20),
    Plant("dispatch number does not rise", "clockwork:dispatch", (("row.dispatch_no += not is_in_stream", "pass"),), 50),
    Plant("a due row is never looked at", "clockwork:_work", (('return "start" if', 'return "wait" if'),), 20),
)  # fmt: skip
