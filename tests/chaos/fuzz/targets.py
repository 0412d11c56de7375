"""Every parser that reads what others write: how it may refuse, and what must be true of what it takes."""
# ruff: noqa: E501 - inputs are as long as they are

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from api.admin_schemas import NewClient, NewKeyRequest
from api.callback_schemas import CallbackReplay
from api.cursors import cursor_of, read_cursor
from api.ledger_schemas import CreditRequest, RatesRequest
from api.problems import Refusal
from api.schemas import EARLIEST, LATEST, BatchRequest, MessageRequest
from api.violations import refuse_body
from cli.csv_messages import read_csv
from cli.csv_prices import read_prices
from cli.csv_rows import CsvFault
from shared.domain.api_keys import InvalidApiKey, format_api_key, new_api_key, parse_api_key
from shared.domain.callback_urls import CallbackUrlError, UrlPolicy, parse_callback_url
from shared.domain.idempotency import InvalidIdempotencyKey, parse_idempotency_key
from shared.domain.money import MoneyFormatError, MoneyOutOfRange, format_micros, parse_micros
from shared.domain.msisdn import InvalidMsisdn, parse_msisdn
from shared.domain.receipt_auth import ReceiptNotAuthentic, sign_receipts, verify_receipt_auth
from shared.domain.receipts import MalformedReceipt, ReceiptReader, ReceiptSettings
from shared.domain.segments import TextError, segment
from shared.domain.signatures import SignatureError, sign, verify
from shared.events import bundles, dead_letters, facts, receipts
from shared.events.wire import MalformedEvent, encode

Refusals = tuple[type[Exception], ...]


class Wrong(Exception):  # noqa: N818 - named for what it is
    """The parser took it, and what it made of it is not right."""


class Target(NamedTuple):
    """A parser.

    Attributes:
        read: reads an input, and raises one of ``refusals`` when it is no good.
        corpus: good inputs.
    """

    read: Callable[[bytes], object]
    refusals: Refusals
    corpus: Sequence[bytes]


def must(is_so: bool, sentence: str) -> None:
    """Raise when it is not so."""
    if not is_so:
        raise Wrong(sentence)


def text_of(raw: bytes) -> str:
    """As aiohttp reads a header: what is no UTF-8 becomes lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def body_reader(kind: Any) -> Callable[[bytes], object]:
    """Read a request's body as api/server.py does."""
    decode = msgspec.json.Decoder(kind).decode

    def read(raw: bytes) -> object:
        try:
            return decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refusal = refuse_body(error, raw, kind)
            must(refusal.status in (400, 422), f"status {refusal.status}")
            raise refusal from None

    return read


# Free text; every other text of an operator's body has a form.
FREE: Final = ("reason", "default_sender")


def operators_reader(kind: Any) -> Callable[[bytes], object]:
    """Read an operator's body: texts of a form end where the form does, times lie in our days."""
    read_body = body_reader(kind)

    def read(raw: bytes) -> object:
        taken = read_body(raw)
        for name in kind.__struct_fields__:
            value = getattr(taken, name)
            if isinstance(value, str) and name not in FREE and kind is not NewKeyRequest:
                must(not value.endswith("\n"), f"{name} ends with a line feed")
            if isinstance(value, datetime):
                must(EARLIEST <= value < LATEST, f"{name} is {value}")
        return taken

    return read


def read_price_file(raw: bytes) -> object:
    lines = read_prices(raw)
    for line in lines:
        must(line["prefix"].isdecimal() and line["prefix"].encode() in raw, "a prefix of its own")
        must(line["price"] is None or line["price"].encode() in raw, "a price of its own")
    return lines


def event_reader(decode: Callable[[bytes], Any]) -> Callable[[bytes], object]:
    """What is read can be written, and read again the same."""

    def read(raw: bytes) -> object:
        event = decode(raw)
        must(decode(encode(event)) == event, "an event is another one after a round trip")
        return event

    return read


def read_text(raw: bytes) -> object:
    """A message's text."""
    text = raw.decode("utf-8", "surrogateescape" if raw[:1] < b"\x40" else "replace")
    segmented = segment(text)
    must("".join(segmented.segments) == text, "the parts are not the text")
    must(1 <= segmented.count <= 10, "a number of parts that nobody allowed")
    return segmented


def read_msisdn(raw: bytes) -> object:
    number = parse_msisdn(text_of(raw))
    must(parse_msisdn(number.e164) == number, "a number is another one when it is read again")
    return number


def read_money(raw: bytes) -> object:
    micros = parse_micros(text_of(raw))
    must(parse_micros(format_micros(micros)) == micros, "an amount is another one after a round trip")
    return micros


def read_api_key(raw: bytes) -> object:
    key = parse_api_key(text_of(raw))
    must(format_api_key(key) == text_of(raw), "a key is another one after a round trip")
    return key


def read_idempotency_key(raw: bytes) -> object:
    key = parse_idempotency_key(text_of(raw))
    must(1 <= len(key) <= 255 and key.isascii() and key.isprintable(), "a key that is none")
    return key


def read_url(raw: bytes) -> object:
    return parse_callback_url(text_of(raw), UrlPolicy())


def read_page(raw: bytes) -> object:
    id_ = read_cursor(text_of(raw), "after")
    must(read_cursor(cursor_of(id_), "after") == id_, "a cursor is another one after a round trip")
    return id_


NOW: Final = 1_795_255_200
HMAC: Final = msgspec.convert({"auth": {"kind": "hmac", "header": "X-Signature"}}, ReceiptSettings)
BEARER: Final = msgspec.convert({"auth": {"kind": "bearer"}}, ReceiptSettings)
ITEMS: Final = msgspec.convert(
    {"auth": {"kind": "bearer"}, "items": "a.b", "done_at_format": "unix_seconds"}, ReceiptSettings
)
SECRET: Final = b'{"receipts":"a secret of the carrier"}'
RECEIPT: Final = (
    b'{"reference":"r-1","state":"DELIVRD","done_at":"2026-11-21T10:00:00Z","msisdn":"+4915112345678",'
    b'"error_code":"000","part_no":1,"message_id":"01938a3e-7b00-7abc-8def-0123456789ab","attempt_no":2}'
)


def read_receipts(settings: ReceiptSettings, content_type: str) -> Callable[[bytes], object]:
    """Read a carrier's POST."""
    reader = ReceiptReader(settings)

    def read(raw: bytes) -> object:
        found = reader.read(raw, content_type)
        for one in found.receipts:
            must(bool(one.reference) and "\0" not in one.reference, "a reference that cannot be stored")
            one.reference.encode()
        if found.refused:
            raise MalformedReceipt(found.refused[0])
        return found

    return read


def read_auth(settings: ReceiptSettings, header: str) -> Callable[[bytes], object]:
    """Ask whether a POST is the carrier's."""

    def read(raw: bytes) -> object:
        verify_receipt_auth(settings.auth, SECRET, {header: text_of(raw)}, "192.0.2.1", b"body", NOW)
        return True

    return read


def read_signature(raw: bytes) -> object:
    id_, _, rest = text_of(raw).partition("|")
    stamp, _, signature = rest.partition("|")
    headers = {"webhook-id": id_, "webhook-timestamp": stamp, "webhook-signature": signature}
    verify(headers, b"body", [b"k" * 32], NOW)
    return True


MESSAGE: Final = (
    b'{"to":"+4915112345678","text":"Your code is 123456","from":"ACME","lane":"express","client_ref":"o-1"}'
)
MESSAGE_IN_FULL: Final = (
    b'{"to":"+4915112345678","text":"\\u00e4\\ud83d\\ude00","from":"ACME","lane":"bulk","client_ref":"order-1",'
    b'"send_at":"2026-11-21T10:00:00+01:00","valid_for_seconds":600,"max_price":"0.10",'
    b'"callback_url":"https://example.com/a","delivery":"at_least_once"}'
)
HEX: Final = b"01938a3e7b007abc8def0123456789ab"
FACT: Final = facts.Fact(
    message_id=HEX.decode(), client_id=1, status="SENT", at=datetime(2026, 11, 21, tzinfo=UTC), region="DE",
    lane="normal", segments=1, amount_micros=5, currency="EUR",
)  # fmt: skip
LETTER: Final = dead_letters.DeadLetter(
    message_id=HEX.decode(), client_id=1, reason="refused", attempts=1, at=datetime(2026, 11, 21, tzinfo=UTC)
)

TARGETS: Final = {
    "POST /v1/messages": Target(body_reader(MessageRequest), (Refusal,), (MESSAGE, MESSAGE_IN_FULL)),
    "POST /v1/messages/batch": Target(
        body_reader(BatchRequest), (Refusal,),
        (b'{"messages":[' + MESSAGE + b"," + MESSAGE_IN_FULL + b"]}", b'{"to":["+4915112345678","+33612345678"],"text":"Hi"}'),
    ),
    "POST /admin/v1/clients": Target(
        operators_reader(NewClient), (Refusal,),
        (b'{"name":"acme","currency":"EUR","default_sender":"ACME","allowed_countries":["DE"],"text_retention_days":7}', b'{"name":"acme\\n","currency":"EUR"}', b'{"name":"acme","currency":"EUR\\n"}',),
    ),
    "POST /admin/v1/keys": Target(
        operators_reader(NewKeyRequest), (Refusal,),
        (b'{"client":"acme","scopes":["messages:send"],"expires_at":"2027-01-01T00:00:00Z","allowed_ips":["198.51.100.0/24"]}',),
    ),
    "POST /admin/v1/clients/{name}/credit": Target(
        operators_reader(CreditRequest), (Refusal,),
        (b'{"kind":"adjustment","amount":"-5.00","reference":"invoice-17","reason":"goodwill"}', b'{"amount":"5","reference":"r\\n"}',),
    ),
    "PUT /admin/v1/rates": Target(
        operators_reader(RatesRequest), (Refusal,),
        (b'{"client":"acme","currency":"EUR","rates":[{"prefix":"49","price":"0.0750"},{"prefix":"33","price":null}]}',),
    ),
    "POST /v1/callback/replay": Target(
        operators_reader(CallbackReplay), (Refusal,),
        (b'{"since":"2026-11-21T10:00:00Z"}', b'{"since":"0001-11-21T10:00:00Z"}', b'{"ids":["01939d2e-0000-7000-8000-000000000000"]}'),
    ),
    "a price list": Target(
        read_price_file, (CsvFault,), (b"prefix,price\n49,0.0750\n33,0.0630\n", b"place;prefix;price\r\nGermany;+49;0.0750\r\nFrance;33;\r\n"),
    ),
    "a file of messages": Target(
        read_csv, (CsvFault,), (b'to,text\n+4915112345678,"Dear Ann, 1"\n', b"note;text;to\r\nx;Hallo;+4915112345678\r\n"),
    ),
    "a text's segments": Target(
        read_text, (TextError,),
        (b"Your code is 123456", b"\xc3\xa4" * 80, "€[]{}~^|".encode() * 30, "Zażółć 👨‍👩‍👧 🇩🇪".encode() * 9, b"x" * 160, b"x" * 1_530),
    ),
    "a number": Target(read_msisdn, (InvalidMsisdn,), (b"+4915112345678", b"+33612345678", b"+12025550123", b"+819012345678")),
    "an amount": Target(read_money, (MoneyFormatError, MoneyOutOfRange), (b"0.0079", b"-1", b"99999999.999999", b"12")),
    "an API key": Target(
        read_api_key, (InvalidApiKey,),
        (format_api_key(new_api_key(bytes(range(48)), False)).encode(), format_api_key(new_api_key(bytes(48), True)).encode()),
    ),
    "an idempotency key": Target(read_idempotency_key, (InvalidIdempotencyKey,), (b"order-1", b'"order-1"', b'"a\\"b\\\\"', b"x" * 255)),
    "a callback URL": Target(
        read_url, (CallbackUrlError,),
        (b"https://example.com/sms?a=b", b"https://[2606:4700::1111]:443/", b"https://xn--bcher-kva.example/", b"https://93.184.216.34/"),
    ),
    "a cursor": Target(read_page, (Refusal,), (b"AZOKPnsAerONnwEjRWeJqw", b"AAAAAAAAAAAAAAAAAAAAAA")),
    "receipts as JSON": Target(read_receipts(HMAC, "application/json"), (MalformedReceipt,), (RECEIPT,)),
    "receipts as a list": Target(
        read_receipts(ITEMS, "application/json; charset=utf-8"), (MalformedReceipt,),
        (b'{"a":{"b":[' + RECEIPT.replace(b'"2026-11-21T10:00:00Z"', b"1795255200") + b"]}}",),
    ),
    "a receipt as a form": Target(
        read_receipts(HMAC, "application/x-www-form-urlencoded"), (MalformedReceipt,),
        (b"reference=r-1&state=DELIVRD&done_at=2026-11-21T10%3A00%3A00Z&msisdn=%2B4915112345678&part_no=1",),
    ),
    "a receipt's signature": Target(
        read_auth(HMAC, "X-Signature"), (ReceiptNotAuthentic,),
        (sign_receipts("a secret of the carrier", b"body", NOW).encode(), b"t=1795255200,v1=00,v1=11"),
    ),
    "a receipt's token": Target(
        read_auth(BEARER, "Authorization"), (ReceiptNotAuthentic,), (b"Bearer a secret of the carrier", b"Bearer x"),
    ),
    "a callback's signature": Target(
        read_signature, (SignatureError,), (b"msg_1|1795255200|" + sign(b"k" * 32, "msg_1", NOW, b"body").encode(), b"msg_1|1795255200|v1,MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= v1,AAAA",),
    ),
    "a bundle": Target(
        event_reader(bundles.decode), (MalformedEvent,),
        (b'{"v":1,"lane":"express","carrier_id":1,"work":[["' + HEX + b'",1],["' + HEX + b'",2147483647]]}',),
    ),
    "a bundle of receipts": Target(
        event_reader(receipts.decode), (MalformedEvent,), (b'{"v":1,"carrier_id":7,"receipt_ids":["' + HEX + b'"]}',),
    ),
    "a bundle of facts": Target(event_reader(facts.decode), (MalformedEvent,), (encode(facts.FactBundle(facts=[FACT])),)),
    "a dead letter": Target(event_reader(dead_letters.decode), (MalformedEvent,), (encode(LETTER),)),
}  # fmt: skip
