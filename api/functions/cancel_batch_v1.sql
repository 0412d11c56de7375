-- Cancels messages that were not handed to a carrier yet; their holds are released (RULES 20). For each position: cancelled (the
-- first, where an id stands twice), already_cancelled, already_sending (SENDING, SENT, UNKNOWN, and whatever waits to be sent again while
-- an earlier attempt may have reached the carrier), already_final, or not_found (also: another client's).
create or replace function tollwire.cancel_batch_v1(p_client bigint[], p_message uuid[])
returns table (o_outcome text, o_state tollwire.message_state)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_min uuid; v_max uuid;
    v_now timestamptz;
    v_cancel uuid[]; v_reason text[]; v_clients bigint[];
    v_answers tollwire.message_state[];
    v_found boolean[];
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    select array_agg(m.id is not null order by x.nth), array_agg(s.state order by x.nth),
           array_agg(distinct m.id) filter (where tollwire.next_state_v1(s.state, 'cancelled') is not null and (s.attempt_no = 0 or not exists (
               select from tollwire.attempts a
               where a.message_id = m.id and (a.outcome is null or a.outcome in ('submitted', 'uncertain')) and (a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown')))))
        into v_found, v_answers, v_cancel
        from unnest(p_client, p_message) with ordinality x(client_id, message_id, nth)
        left join tollwire.messages m on m.id = x.message_id and m.client_id = x.client_id and m.id between v_min and v_max
        left join tollwire.message_states s on s.message_id = m.id and s.message_id between v_min and v_max;
    if v_cancel is not null then
        v_reason := array_fill('cancelled'::text, array[cardinality(v_cancel)]);
        perform tollwire.end_messages_v1(v_cancel, array_fill('cancelled'::tollwire.message_event, array[cardinality(v_cancel)]), v_reason, 0);
        v_clients := array(select distinct m.client_id from tollwire.messages m where m.id = any (v_cancel) and m.id between v_min and v_max);
        perform 1 from ledger.accounts where id = any (v_clients) order by id for update;
        perform ledger.settle_holds_v1(v_cancel, array_fill('release'::ledger.entry_kind, array[cardinality(v_cancel)]), v_reason);
        perform ledger.give_back_places_v1(v_clients);
    end if;
    return query
        select case when not x.found then 'not_found'
                    when x.message_id = any (v_cancel) and x.nth = min(x.nth) over (partition by x.message_id, x.found) then 'cancelled'
                    when x.message_id = any (v_cancel) or x.state = 'CANCELLED' then 'already_cancelled'
                    when x.state in ('DELIVERED', 'UNDELIVERED', 'EXPIRED', 'FAILED_PERM') then 'already_final'
                    else 'already_sending' end,
               case when not x.found then null when x.message_id = any (v_cancel) then 'CANCELLED' else x.state end
        from unnest(p_message, v_found, v_answers) with ordinality x(message_id, found, state, nth) order by x.nth;
end $$;

grant execute on function tollwire.cancel_batch_v1 to tollwire_api;
