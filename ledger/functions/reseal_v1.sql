-- Secrets that are sealed with an older key are sealed anew by the ledger process, which has the keys; here the new seal takes the old one's
-- place if that is still there. An operator who gives a carrier another secret meanwhile wins. Returns how many were replaced.
create or replace function tollwire.reseal_carriers_v1(p_carrier smallint[], p_old bytea[], p_new bytea[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_replaced integer;
begin
    perform 1 from tollwire.carriers where id = any (p_carrier) order by id for update;
    update tollwire.carriers c set secret_sealed = x.new
        from unnest(p_carrier, p_old, p_new) x(id, old, new) where c.id = x.id and c.secret_sealed = x.old;
    get diagnostics v_replaced = row_count;
    return v_replaced;
end $$;

create or replace function tollwire.reseal_callback_secrets_v1(p_secret bigint[], p_old bytea[], p_new bytea[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_replaced integer;
begin
    perform 1 from tollwire.callback_secrets where id = any (p_secret) order by id for update;
    update tollwire.callback_secrets s set sealed = x.new
        from unnest(p_secret, p_old, p_new) x(id, old, new) where s.id = x.id and s.sealed = x.old;
    get diagnostics v_replaced = row_count;
    return v_replaced;
end $$;

-- Which key a sealed value was sealed with (shared/runtime/keyring.py: a byte of version, a byte of length, the key's id); null: not version 1.
create or replace function tollwire.key_id_v1(p_sealed bytea) returns text
language sql immutable parallel safe as $$
    select case when length(p_sealed) > 2 and get_byte(p_sealed, 0) = 1 then convert_from(substr(p_sealed, 3, get_byte(p_sealed, 1)), 'SQL_ASCII') end
$$;

grant execute on function tollwire.reseal_carriers_v1, tollwire.reseal_callback_secrets_v1, tollwire.key_id_v1 to tollwire_ledger;
