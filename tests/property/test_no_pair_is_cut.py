from hypothesis import given, settings

from shared.domain.alphabet import decode_gsm7, encode_gsm7
from shared.domain.segments import SEGMENTS_LIMIT, Encoding, segment
from tests.support.segment_texts import texts


@settings(max_examples=500)
@given(texts())
def test_every_segment_encodes_and_decodes_on_its_own(text):
    """An escape or a surrogate pair that was cut would show as bytes that do not decode alone."""
    parts = segment(text, segments_max=SEGMENTS_LIMIT)
    if parts.encoding is Encoding.GSM7:
        encoded = [encode_gsm7(part) for part in parts.segments]
        assert b"".join(encoded) == encode_gsm7(text)
        assert [decode_gsm7(septets) for septets in encoded] == list(parts.segments)
        assert not any(septets.endswith(b"\x1b") for septets in encoded)
    else:
        encoded = [part.encode("utf-16-be") for part in parts.segments]
        assert b"".join(encoded) == text.encode("utf-16-be")
        assert [units.decode("utf-16-be") for units in encoded] == list(parts.segments)
