-- A top-up (amount > 0), an adjustment (either sign) or a new credit limit, once per (account, reference) (RULES 25).
-- The same reference again is answered again with o_replayed; with another amount or kind it is refused (reference_conflict).
-- Neither the balance nor the limit goes beyond a million million units, up or down.
-- An adjustment or a lower limit may leave less than nothing: then overdrawn rises; what comes in lowers it first (RULES 23).
create or replace function ledger.post_credit_v1(p_account bigint, p_kind text, p_amount bigint, p_reference text, p_actor text, p_reason text)
returns table (o_replayed boolean, o_version bigint, o_posted bigint, o_held bigint, o_credit_limit bigint, o_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    -- A million million units: limit, balance and the holds on both, added in any order, stay far within 64 bits, so that no release or
    -- capture can ever fail for it.
    c_most_micros constant bigint := 1000000000000000000;
    a ledger.accounts;
    o ledger.operations;
    v_other bigint; v_debit bigint; v_credit bigint;
begin
    perform ledger.require_read_committed_v1();
    select * into a from ledger.accounts where id = p_account and kind = 'client' for update;
    if not found then
        raise exception 'there is no client account %', p_account using errcode = 'foreign_key_violation';
    end if;
    select * into o from ledger.operations where account_id = p_account and reference = p_reference;
    if found then
        if o.kind <> p_kind or o.amount_micros <> p_amount then
            raise exception 'reference_conflict: the reference % stands for % of % micros', p_reference, o.kind, o.amount_micros using errcode = 'unique_violation';
        end if;
        return query select true, o.entry_version, o.posted_after_micros, o.held_after_micros, o.credit_limit_after_micros, o.at;
        return;
    end if;
    if p_kind = 'top_up' and p_amount <= 0 or p_kind = 'credit_limit' and p_amount < 0 or p_kind = 'adjustment' and p_amount = 0 then
        raise exception 'an amount of % micros is not possible for %', p_amount, p_kind using errcode = 'invalid_parameter_value';
    end if;
    if p_amount not between -c_most_micros and c_most_micros
       or p_kind <> 'credit_limit' and a.posted_micros + p_amount not between -c_most_micros and c_most_micros then
        raise exception 'an account holds % at most, and has a credit limit of as much', c_most_micros / 1000000 using errcode = 'numeric_value_out_of_range';
    end if;
    -- After all before it, also where the clock was set back: which limit was of when is read from these times.
    a.last_entry_at := greatest(clock_timestamp(), a.last_entry_at + interval '1 microsecond');
    if p_kind = 'credit_limit' then
        a.credit_limit_micros := p_amount;
    else
        a.posted_micros := a.posted_micros + p_amount;
        a.version := a.version + 1;
        v_other := ledger.system_account_v1(a.currency, case p_kind when 'top_up' then 'funding'::ledger.account_kind else 'adjustments' end);
        v_debit := case when p_amount > 0 then v_other else a.id end;
        v_credit := case when p_amount > 0 then a.id else v_other end;
        a.chain_head := ledger.entry_hash_v1(a.chain_head, a.id, a.version, (extract(epoch from a.last_entry_at) * 1000000)::bigint, p_kind::ledger.entry_kind,
                                             null, v_debit, v_credit, abs(p_amount), a.posted_micros, a.held_micros, p_reference, p_reason);
        insert into ledger.entries (account_id, version, day, at, kind, debit_account, credit_account, amount_micros,
                                    posted_after_micros, held_after_micros, reference, reason, hash)
            values (a.id, a.version, (a.last_entry_at at time zone 'UTC')::date, a.last_entry_at, p_kind::ledger.entry_kind, v_debit, v_credit, abs(p_amount),
                    a.posted_micros, a.held_micros, p_reference, p_reason, a.chain_head);
    end if;
    a.overdrawn_micros := greatest(0, -(a.posted_micros - a.held_micros + a.credit_limit_micros));
    update ledger.accounts set posted_micros = a.posted_micros, credit_limit_micros = a.credit_limit_micros, overdrawn_micros = a.overdrawn_micros,
                               version = a.version, chain_head = a.chain_head, last_entry_at = a.last_entry_at where id = a.id;
    insert into ledger.operations (account_id, reference, kind, amount_micros, entry_version, posted_after_micros, held_after_micros,
                                   credit_limit_after_micros, actor, reason, at)
        values (a.id, p_reference, p_kind, p_amount, case when p_kind <> 'credit_limit' then a.version end, a.posted_micros, a.held_micros, a.credit_limit_micros, p_actor, p_reason, a.last_entry_at);
    return query select false, case when p_kind <> 'credit_limit' then a.version end, a.posted_micros, a.held_micros, a.credit_limit_micros, a.last_entry_at;
end $$;

grant execute on function ledger.post_credit_v1 to tollwire_api;
