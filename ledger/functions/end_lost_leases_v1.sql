-- Ends first leases that cannot come to anything any more, long before their time (RULES 19): the process that was to publish is gone, or
-- JetStream lost what it had. What was leased before the oldest message that its lane's stream still has is not in the stream; nor is what
-- was published into another life of it. The next turn looks at these rows, by the same rules as ever. What was lost before has a minute,
-- so that a stream that takes things in slowly is not given them again and again; longer leases, of what was seen in the stream, end early
-- only in their last minute. p_oldest, p_incarnation: as for dispatch_due_v1. At most p_limit rows are looked at, from the latest due before
-- p_before on, the longest leases too (null: from those in their last minute on, as is enough while the stream lives); reached: before which
-- the next call goes on, null at the end. So whatever else is due soon, retries and what was put off, each lease is looked at after a few
-- calls, and no index is kept for it.
create or replace function tollwire.end_lost_leases_v1(p_oldest timestamptz[], p_incarnation bigint, p_before timestamptz, p_limit integer)
returns table (ended integer, reached timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_first_lease constant interval := '60 seconds';
    c_longest_lease constant interval := '1 hour';
    -- Between the commit and the stream, and between the database's clock and that of NATS.
    c_on_its_way constant interval := '5 seconds';
    v_now timestamptz := clock_timestamp();
    v_ids uuid[]; v_min uuid; v_max uuid;
begin
    with seen as materialized (
        select o.message_id, o.lane, o.due_at, o.dispatch_at, o.leased_at, o.incarnation, o.lease_seconds from tollwire.outbox o
        -- What was leased just now is on its way.
        where o.due_at > v_now and o.due_at <= v_now + case when p_before is null then c_first_lease - c_on_its_way else c_longest_lease end
          and o.due_at <= coalesce(p_before, 'infinity') order by o.due_at desc limit p_limit
    ), gone as (
        select n.message_id from seen n
        where n.leased_at < v_now - c_on_its_way and n.dispatch_at <= v_now
          and (n.incarnation <> p_incarnation
               or n.leased_at < coalesce(p_oldest[case n.lane when 'express' then 1 when 'normal' then 2 else 3 end], v_now) - c_on_its_way
                  and (n.lease_seconds <= extract(epoch from c_first_lease) or n.leased_at <= v_now - c_first_lease))
    )
    -- A microsecond further at least, so that rows of one moment are not looked at for ever.
    select (select case when count(*) = p_limit then least(min(due_at), p_before - interval '1 microsecond') end from seen),
           array_agg(message_id), min(message_id::text collate "C")::uuid, max(message_id::text collate "C")::uuid
        into reached, v_ids, v_min, v_max from gone;
    ended := 0;
    if v_ids is null then
        return next;
        return;
    end if;
    with lost as materialized (
        select o.message_id
        from tollwire.outbox o
        join lateral (select b.* from tollwire.message_states b where b.message_id = o.message_id and b.message_id between v_min and v_max offset 0) s on true
        where o.message_id = any (v_ids) and o.due_at > v_now
          -- A claim is looked at when its worker can no longer be at it.
          and (s.state in ('QUEUED', 'FAILED_TEMP') or s.state = 'SENDING' and s.claim_deadline + c_on_its_way <= v_now)
        order by o.message_id for update of o skip locked
    )
    update tollwire.outbox o set due_at = v_now from lost where o.message_id = lost.message_id;
    get diagnostics ended = row_count;
    return next;
end $$;

grant execute on function tollwire.end_lost_leases_v1 to tollwire_ledger;
