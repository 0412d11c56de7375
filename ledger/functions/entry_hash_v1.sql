-- The link of the hash chain (RULES 26): sha256(0x01 | previous | each column in binary, in this order).
-- Integers are 8 bytes big-endian, the time is µs since the Unix epoch, text is a 4-byte length (-1: null) and UTF-8,
-- an absent message is 16 zero bytes. Golden vectors in tests/contract hold SQL and Python (ledger/chain.py) together.
-- Stable and not immutable because convert_to is: only so is it inlined, and a hash costs 1 µs instead of 5.
create or replace function ledger.entry_hash_v1(
    p_previous bytea, p_account bigint, p_version bigint, p_at_us bigint, p_kind ledger.entry_kind, p_message uuid,
    p_debit bigint, p_credit bigint, p_amount bigint, p_posted_after bigint, p_held_after bigint, p_reference text, p_reason text
) returns bytea
language sql stable parallel safe as $$
    select sha256('\x01'::bytea || p_previous || int8send(p_account) || int8send(p_version) || int8send(p_at_us)
        || int4send(case p_kind when 'top_up' then 1 when 'hold' then 2 when 'capture' then 3 when 'release' then 4
                                when 'adjustment' then 5 when 'late_capture' then 6 end)
        || uuid_send(coalesce(p_message, '00000000-0000-0000-0000-000000000000'::uuid))
        || int8send(p_debit) || int8send(p_credit) || int8send(p_amount) || int8send(p_posted_after) || int8send(p_held_after)
        || int4send(coalesce(octet_length(p_reference), -1)) || coalesce(convert_to(p_reference, 'UTF8'), ''::bytea)
        || int4send(coalesce(octet_length(p_reason), -1)) || coalesce(convert_to(p_reason, 'UTF8'), ''::bytea))
$$;

grant execute on function ledger.entry_hash_v1 to tollwire_ledger, tollwire_readonly;
