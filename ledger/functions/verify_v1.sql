-- Closing a day (RULES 27): a checkpoint for each account that moved, then one seal over them all. Only these two functions write them.

-- Writes the checkpoints of the next p_limit client accounts after p_after: the account as its last entry of the day left it.
-- Made again it makes nothing. A day is closed ten minutes after its end, when hardly an account is still in it. That is by a clock, which
-- may be set back over midnight, and a commit may wait for a standby for longer: so no account is closed in which an entry of the day may
-- still come. An entry is never of before its account's last one (last_entry_at), and where that is of the day, the day's end takes its
-- place under the account's lock. A call that did so for some makes nothing and answers p_after, to be called so again: whoever sends for
-- such an account waits a moment, and the entries, which may lie on cold disks, are read under no lock. o_last is null when no account was left.
create or replace function ledger.close_day_v1(p_day date, p_after bigint, p_limit integer) returns table (o_last bigint, o_made integer)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    c_margin constant interval := '10 minutes';
    c_locked_max constant integer := 200;  -- two or three milliseconds
    v_end constant timestamptz := (p_day + 1)::timestamp at time zone 'UTC';
    v_last bigint;
    v_made integer;
    v_open bigint[];
begin
    perform ledger.require_read_committed_v1();
    if p_day >= ((clock_timestamp() - c_margin) at time zone 'UTC')::date then
        raise exception 'the day % is not over yet', p_day using errcode = 'invalid_parameter_value';
    end if;
    if exists (select from ledger.seals where day = p_day) then
        raise exception 'the day % is sealed', p_day using errcode = 'restrict_violation';
    end if;
    select max(a.id) into v_last
        from (select id from ledger.accounts where kind = 'client' and id > p_after order by id limit p_limit) a;
    select array_agg(a.id) into v_open
        from (select id from ledger.accounts
              where kind = 'client' and id > p_after and id <= v_last and last_entry_at < v_end order by id limit c_locked_max for update) a;
    if v_open is not null then
        update ledger.accounts set last_entry_at = v_end where id = any (v_open);
        return query select p_after, 0;
        return;
    end if;
    -- Later than the look at the accounts, so that it sees every entry that was before it.
    insert into ledger.checkpoints (day, account_id, version, posted_micros, held_micros, chain_head)
        select p_day, a.id, e.version, e.posted_after_micros, e.held_after_micros, e.hash
        from ledger.accounts a
        cross join lateral (select * from ledger.entries e where e.account_id = a.id and e.day = p_day order by e.version desc limit 1) e
        where a.kind = 'client' and a.id > p_after and a.id <= v_last
        order by a.id
        on conflict (account_id, day) do nothing;
    get diagnostics v_made = row_count;
    return query select v_last, v_made;
end $$;

-- Seals a closed day. Days are sealed in order, each once; the same seal again is nothing new. Whoever opens an account waits for a seal
-- and is waited for: what was opened after the others were closed, by a clock that was set back, is closed too before there is a seal.
create or replace function ledger.seal_day_v1(p_day date, p_accounts bigint, p_entries bigint, p_amounts jsonb, p_root bytea, p_signature bytea, p_key_id text)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_made integer;
begin
    perform pg_advisory_xact_lock(hashtextextended('ledger.seals', 0));
    if exists (select from ledger.seals where day > p_day) then
        raise exception 'a later day than % is sealed already', p_day using errcode = 'restrict_violation';
    end if;
    if p_accounts <> (select count(*) from ledger.checkpoints where day = p_day) then
        raise exception 'the day % does not have % checkpoints', p_day, p_accounts using errcode = 'restrict_violation';
    end if;
    if exists (select from ledger.accounts where kind = 'client' and last_entry_at < (p_day + 1)::timestamp at time zone 'UTC') then
        raise exception 'there are accounts that may still have entries of %', p_day using errcode = 'restrict_violation';
    end if;
    insert into ledger.seals (day, accounts, entries, amounts, root, signature, key_id)
        values (p_day, p_accounts, p_entries, p_amounts, p_root, p_signature, p_key_id)
        on conflict (day) do nothing;
    get diagnostics v_made = row_count;
    return v_made = 1;
end $$;

grant execute on function ledger.close_day_v1, ledger.seal_day_v1 to tollwire_ledger;
