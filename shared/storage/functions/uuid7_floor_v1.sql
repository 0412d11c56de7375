-- The smallest UUID that a UUIDv7 of this millisecond, or of a later one, can be: a bound for partitions and walks.
create function tollwire.uuid7_floor_v1(p_at timestamptz) returns uuid
language sql immutable parallel safe as $$
    select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;
