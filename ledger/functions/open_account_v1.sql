-- Opens a client's account, empty, in one currency for ever.
create function ledger.open_account_v1(p_currency text, p_dispatch_interval_us bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_id bigint;
begin
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
