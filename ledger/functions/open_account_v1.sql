-- Opens a client's account, empty, in one currency for ever. The currency's system accounts are made here, in one order,
-- so that no hot function ever makes one: two flushes that each made the first two of two currencies could wait for each other.
create function ledger.open_account_v1(p_currency text, p_dispatch_interval_us bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_id bigint;
begin
    perform ledger.system_account_v1(p_currency, k) from unnest(enum_range(null::ledger.account_kind)) k where k <> 'client';
    insert into ledger.accounts (kind, currency, dispatch_interval_us) values ('client', p_currency, p_dispatch_interval_us) returning id into v_id;
    return v_id;
end $$;

-- The contracted rate of dispatch, as the gap between two messages; 0 is "no pacing".
create function ledger.set_pacing_v1(p_account bigint, p_dispatch_interval_us bigint) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.accounts set dispatch_interval_us = p_dispatch_interval_us,
        next_dispatch_at = case when p_dispatch_interval_us = 0 then '-infinity' else next_dispatch_at end
    where id = p_account and kind = 'client'
$$;
