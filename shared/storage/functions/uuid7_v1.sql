-- A UUIDv7 of this moment (PostgreSQL 17 has none of its own).
create or replace function tollwire.uuid7_v1(p_at timestamptz) returns uuid
language sql volatile parallel safe as $$
    select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;
