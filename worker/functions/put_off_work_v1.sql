-- Puts off work that a worker has from the stream and whose carrier takes nothing soon: due again after p_seconds, under the next dispatch
-- number, so that the bundle may come again, and with no place in the stream, so that its oldest message says nothing of this work.
-- It is never due later than after a quarter of what is left of the validity: its carrier may be down by then, and another one asked in time.
-- dispatch_at stays: it says when the message might first go. What is claimed, ended or dispatched anew by now is left alone, so the same
-- call again changes nothing (RULES 4). Returns how many were put off.
create or replace function tollwire.put_off_work_v1(p_message uuid[], p_dispatch integer[], p_seconds double precision[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    v_number integer;
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) and message_id between v_min and v_max order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    update tollwire.outbox o
        set dispatch_no = o.dispatch_no + 1, leased_at = null, incarnation = 0, lease_seconds = 60,
            due_at = least(m.valid_until, v_now + least(x.seconds * interval '1 second', greatest((m.valid_until - v_now) / 4, interval '5 seconds')))
        from unnest(p_message, p_dispatch, p_seconds) x(id, dispatch_no, seconds)
        join lateral (select b.state from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state in ('QUEUED', 'FAILED_TEMP')
        join lateral (select b.valid_until from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on true
        where o.message_id = any (p_message) and o.message_id = x.id and o.dispatch_no = x.dispatch_no;
    get diagnostics v_number = row_count;
    return v_number;
end $$;

grant execute on function tollwire.put_off_work_v1 to tollwire_worker;
