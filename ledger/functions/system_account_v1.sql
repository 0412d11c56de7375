-- The system account of a kind in a currency, made when it is first needed.
create or replace function ledger.system_account_v1(p_currency text, p_kind ledger.account_kind) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_id bigint;
begin
    select id into v_id from ledger.accounts where kind = p_kind and currency = p_currency and kind <> 'client';
    if v_id is null then
        insert into ledger.accounts (kind, currency) values (p_kind, p_currency)
            on conflict (currency, kind) where kind <> 'client' do nothing;
        select id into strict v_id from ledger.accounts where kind = p_kind and currency = p_currency and kind <> 'client';
    end if;
    return v_id;
end $$;
