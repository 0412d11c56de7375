-- The smallest UUID that a UUIDv7 of this millisecond, or of a later one, can be: a bound for partitions and walks.
-- A time before 1970, beyond 48 bits or infinite is taken as the first or the last that an id can carry.
create or replace function tollwire.uuid7_floor_v1(p_at timestamptz) returns uuid
language sql immutable parallel safe as $$
    select (lpad(to_hex(greatest(0, least(extract(epoch from p_at) * 1000, 281474976710655))::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

grant execute on function tollwire.uuid7_floor_v1 to tollwire_api, tollwire_worker, tollwire_dlr, tollwire_ledger, tollwire_readonly;
