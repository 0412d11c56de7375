-- What stands under idempotency keys, for requests that could not be accepted now: a repeat gets its first answer all the same, though
-- a rate or a route is gone since then (RULES 10). Answers per array position; o_message is null where nothing stands. It waits for
-- whoever decides for the accounts, so that "nothing" is the truth and not a look before somebody's commit (RULES 4, 11). Writes nothing.
create or replace function tollwire.known_keys_v1(p_account bigint[], p_key text[], p_item smallint[])
returns table (o_message uuid, o_fingerprint bytea, o_problem text, o_args jsonb, o_created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_slot_seconds constant integer := 43200;
    c_slots_kept constant integer := 6;  -- as accept_batch_v1: six whole slots of 12 h before this one
    v_now timestamptz;
    v_slot integer;
begin
    perform ledger.require_read_committed_v1();
    perform 1 from ledger.accounts where id = any (p_account) order by id for update;
    v_now := clock_timestamp();
    v_slot := floor(extract(epoch from v_now) / c_slot_seconds)::integer;
    return query
        select k.message_id, k.fingerprint, k.problem, k.problem_args, k.created_at
        from unnest(p_account, p_key, p_item) with ordinality x(account_id, key, item, nth)
        left join lateral (
            select k.* from tollwire.idempotency_keys k
            where k.account_id = x.account_id and k.key = x.key and k.item = x.item
              and k.slot >= v_slot - c_slots_kept and k.slot <= v_slot + 1 and k.created_at > v_now - interval '72 hours'
            order by k.slot desc limit 1) k on true
        order by x.nth;
end $$;

grant execute on function tollwire.known_keys_v1 to tollwire_api;
