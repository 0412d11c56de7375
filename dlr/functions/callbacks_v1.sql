-- Everything that is needed to send callbacks. The ids are leased to the caller (by settle or by lease_callbacks_v1).
-- o_skip: done (already), gone (its message's day is dropped: there is nothing left to tell), superseded (a later event of its message is told, too), disabled
-- (no live endpoint), open (the endpoint's breaker) or behind (the event before it is not told yet: an end waits for a "sent" that is
-- leased, a late receipt for the end). o_own_url: o_url is another than the endpoint's, named by the message itself.
-- What the message was when it happened is told, whenever it is posted: a submit does not know of the end, nor an end of a late receipt.
create or replace function tollwire.load_callbacks_v1(p_callback uuid[])
returns table (o_callback uuid, o_skip text, o_endpoint bigint, o_url text, o_own_url boolean, o_event_type text, o_sequence smallint, o_attempts smallint, o_created_at timestamptz,
               o_message uuid, o_state tollwire.message_state, o_msisdn text, o_sender text, o_client_ref text, o_segments smallint,
               o_price bigint, o_currency text, o_charged boolean, o_error text, o_message_attempts smallint, o_possible_duplicate boolean,
               o_late_receipt boolean, o_parts_delivered smallint, o_message_created_at timestamptz, o_final_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_callback) m;
    return query
        select c.id,
               case when c.done_at is not null then 'done' when m.id is null and c.event_type <> 'callback.test' then 'gone' when e.id is null or h.disabled_at is not null then 'disabled'
                    when i.is_sent and (tollwire.event_type_v1(s.state) = any (e.events) and s.final_at is not null or s.late_receipt and 'message.late_receipt' = any (e.events)) then 'superseded'
                    when h.open_until > v_now and coalesce(m.callback_url, e.url) = e.url then 'open'
                    when b.due_at > v_now and b.is_leased or c.event_type = 'message.late_receipt' and b.id is not null then 'behind' end,
               c.endpoint_id, coalesce(m.callback_url, e.url), coalesce(m.callback_url <> e.url, false), c.event_type, c.sequence, c.attempts, c.created_at,
               m.id, case when i.is_sent and s.final_at is not null then 'SENT' else s.state end, m.msisdn, m.sender, m.client_ref, m.segments, m.price_micros, m.currency,
               case when i.is_sent then l.state = 'CAPTURED' and m.charge = 'submitted' else l.state = 'CAPTURED' or i.is_late and l.late_captured_at is not null end,
               case when not i.is_sent then s.error_code end, s.attempt_no, s.possible_duplicate,
               i.is_late, case when i.is_sent then 0::smallint else s.parts_delivered end, m.created_at, case when not i.is_sent then s.final_at end
        from unnest(p_callback) with ordinality x(id, nth)
        cross join lateral (select * from tollwire.callbacks b where b.id = x.id and b.id between v_min and v_max offset 0) c
        cross join lateral (select c.event_type = 'message.sent' as is_sent, c.event_type = 'message.late_receipt' as is_late) i
        left join lateral (select * from tollwire.messages b where b.id = c.message_id offset 0) m on true
        left join lateral (select * from tollwire.message_states b where b.message_id = c.message_id offset 0) s on true
        left join lateral (select b.state, b.late_captured_at from ledger.credit_locks b where b.message_id = c.message_id offset 0) l on true
        left join lateral (
            select p.id, p.due_at, p.is_leased from tollwire.callbacks p
            where c.event_type <> 'message.sent' and p.done_at is null
              and p.id = tollwire.callback_id_v1(case c.event_type when 'message.late_receipt' then s.final_at else s.submitted_at end, c.message_id, (c.sequence - 1)::smallint)
            offset 0) b on true
        left join tollwire.callback_endpoints e on e.id = c.endpoint_id
        left join tollwire.callback_health h on h.endpoint_id = c.endpoint_id
        order by x.nth;
end $$;

-- Notes what became of callbacks. p_outcome null: try again in p_retry_seconds. Failures go to the log; the same attempt twice counts once.
-- What was no try (it found no turn, or ends without a post) leaves what the last one came to.
-- Who has a callback replayed again and again keeps the last of its tries: what one callback may store is bounded.
create or replace function tollwire.record_callbacks_v1(p_callback uuid[], p_attempt smallint[], p_outcome text[], p_status smallint[], p_error text[], p_duration_ms integer[],
                                             p_address text[], p_answer bytea[], p_retry_seconds double precision[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
    c_id uuid[]; c_attempt smallint[]; c_outcome text[]; c_status smallint[]; c_duration_ms integer[]; c_retry_seconds double precision[];
    c_tries_kept constant integer := 20;  -- as the log shows
    c_attempts_max constant integer := 32767;  -- beyond it tries have the same number
begin
    select array_agg(x.id), array_agg(x.attempt_no), array_agg(x.outcome), array_agg(x.status), array_agg(x.duration_ms), array_agg(x.retry_seconds)
        into c_id, c_attempt, c_outcome, c_status, c_duration_ms, c_retry_seconds
        from (select * from unnest(p_callback, p_attempt, p_outcome, p_status, p_duration_ms, p_retry_seconds) y(id, attempt_no, outcome, status, duration_ms, retry_seconds)
              order by y.id, y.attempt_no) x;
    v_min := c_id[1];
    v_max := c_id[cardinality(c_id)];
    perform 1 from tollwire.callbacks where id = any (c_id) and id between v_min and v_max order by id for update;
    -- First tries that were taken leave nothing in the log, and they are nearly all.
    if array_remove(p_error, null) <> '{}' or array_remove(p_answer, null) <> '{}' then
        insert into tollwire.callback_attempts (callback_id, attempt_no, at, status, error, duration_ms, address, answer_head)
            -- What was erased does not come back by an answer to what was posted before.
            select x.id, x.attempt_no, v_now, x.status, left(x.error, 200), x.duration_ms, x.address, case when x.answer is not null and not exists (
                       select from tollwire.callbacks b cross join lateral (select m.msisdn from tollwire.messages m where m.id = b.message_id offset 0) m
                       where b.id = x.id and b.id between v_min and v_max and m.msisdn like '+999%') then x.answer end
            from unnest(p_callback, p_attempt, p_status, p_error, p_duration_ms, p_address, p_answer) x(id, attempt_no, status, error, duration_ms, address, answer)
            where x.error is not null or x.answer is not null
            order by x.id
            on conflict (callback_id, attempt_no) do nothing;
        if c_tries_kept < any (p_attempt) then
            delete from tollwire.callback_attempts a using unnest(p_callback, p_attempt) x(id, attempt_no)
                where a.callback_id = x.id and a.callback_id between v_min and v_max and a.attempt_no <= x.attempt_no - c_tries_kept;
        end if;
    end if;
    update tollwire.callbacks c
        set is_leased = false, (attempts, status, duration_ms, outcome, done_at, due_at) = (
            select c_attempt[i], case when is_try then c_status[i] else c.status end, case when is_try then c_duration_ms[i] else c.duration_ms end,
                   c_outcome[i], case when c_outcome[i] is not null then v_now end,
                   case when c_outcome[i] is null then v_now + c_retry_seconds[i] * interval '1 second' else c.due_at end
            from width_bucket(c.id, c_id) i cross join lateral (select c_attempt[i] > c.attempts or c_duration_ms[i] is not null) t(is_try))
        where c.id = any (c_id) and c.id between v_min and v_max and c.done_at is null and c_attempt[width_bucket(c.id, c_id)] >= c.attempts
          -- A failed try that is noted already changes nothing: since it was due again another may have leased it.
          and (c_outcome[width_bucket(c.id, c_id)] is not null or c_duration_ms[width_bucket(c.id, c_id)] is null
               or c_attempt[width_bucket(c.id, c_id)] > c.attempts or c.attempts = c_attempts_max);
end $$;

-- Leases callbacks that are due, some of each endpoint in turn, so that a dead endpoint's pile hides nobody's (RULES 36).
-- Endpoints whose breaker is open give one each when their time has come, as the probe; what goes to other URLs, which messages named
-- themselves, is given beside it all the time. Those in p_endpoint (ascending) give what the caller has
-- room for in place of p_each: what it could only send back is not leased, loaded and kept from others.
-- Endpoints come by their ids, those after p_after first and then the others: who was cut off by p_limit goes on there, and no sweep ends
-- before it is full or has been round.
-- Beyond a month only what a client replayed is open. Whether any of it is due is looked up once; if not, no endpoint is looked for there.
create or replace function tollwire.lease_callbacks_v1(p_limit integer, p_each integer, p_lease_seconds integer, p_endpoint bigint[], p_room integer[], p_after bigint)
returns table (o_callback uuid, o_endpoint bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off set enable_sort = off as $$
declare
    v_now timestamptz := clock_timestamp();
    c_first constant uuid := '00000000-0000-0000-0000-000000000000';
    c_noted constant interval := '1 hour';
    v_from uuid := tollwire.uuid7_floor_v1(v_now - interval '31 days');
    v_ids uuid[];
begin
    -- Once an hour it is noted that somebody looks for what is due. Where nobody did for a day everything may have stood still, or the
    -- database was restored to a moment that long ago, or its clock was another: then what waits has its 6 days from now on
    -- (end_forgotten_v1). Less than a day is no matter: what is due is taken up within minutes.
    if not exists (select from tollwire.watermarks w where w.name = 'end_forgotten' and w.at between v_now - c_noted and v_now + c_noted) then
        insert into tollwire.watermarks as w (name, position, at) values ('end_forgotten', extract(epoch from v_now + interval '6 days')::text, v_now)
            on conflict (name) do update set at = v_now,
                position = case when w.at between v_now - interval '1 day' and v_now + c_noted then w.position else excluded.position end;
    end if;
    -- In an order, so that it is read from the index of what is open, which has none of what is done.
    perform 1 from tollwire.callbacks c where c.done_at is null and c.due_at <= v_now and c.id <= v_from order by c.endpoint_id limit 1;
    if found then
        v_from := c_first;
    end if;
    with recursive ends(endpoint_id, is_round) as (
        select p_after, false
        union all
        -- Past the highest id the round begins, at an id that is nobody's, and it ends with p_after.
        select coalesce(n.endpoint_id, 0), ends.is_round or n.endpoint_id is null
        from ends left join lateral (
            select c.endpoint_id from tollwire.callbacks c
            where c.done_at is null and c.endpoint_id > ends.endpoint_id and c.id > v_from
            order by c.endpoint_id limit 1) n on true
        where not ends.is_round or n.endpoint_id <= p_after
    ), chosen as materialized (
        select d.id from ends
        left join tollwire.callback_health h on h.endpoint_id = ends.endpoint_id
        cross join lateral width_bucket(ends.endpoint_id, p_endpoint) w(i)
        cross join lateral (
            select case when p_endpoint[w.i] = ends.endpoint_id then p_room[w.i] else p_each end as room,
                   case when h.open_until > v_now then 0 when h.consecutive_failures > 0 then 1 end as of_failing offset 0) r
        cross join lateral (
            select p.id from (
                select c.id from tollwire.callbacks c
                where c.endpoint_id = ends.endpoint_id and c.done_at is null and c.due_at <= v_now and c.id > v_from
                order by c.due_at limit least(r.room, r.of_failing) for update skip locked) p
            union all
            -- One of these may be the one above; it is leased once all the same.
            select o.id from (
                select c.id from tollwire.callbacks c
                where c.endpoint_id = ends.endpoint_id and c.done_at is null and c.own_url and c.due_at <= v_now and c.id > v_from
                order by c.due_at limit case when r.of_failing is null then 0 else r.room end for update skip locked) o) d
        where (ends.is_round or ends.endpoint_id > p_after) and h.disabled_at is null
        limit p_limit
    )
    select array_agg(c.id order by c.id) into v_ids from chosen c;
    -- By their ids and not by a join, as everywhere (ledger/functions/settle_holds_v1.sql).
    return query
        update tollwire.callbacks c set due_at = v_now + p_lease_seconds * interval '1 second', is_leased = true
            where c.id = any (v_ids) and c.id between v_ids[1] and v_ids[cardinality(v_ids)] returning c.id, c.endpoint_id;
end $$;

-- Whether an endpoint took a callback at its own URL in the time until now, from whichever process. It looks at the client's latest callbacks
-- alone: who had so many since its last success has none that counts.
create or replace function tollwire.has_taken_callbacks_v1(p_endpoint bigint, p_within interval) returns boolean
language plpgsql stable strict security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_looked_max constant integer := 10000;
    c_tried_for constant interval := '5 days';  -- from the event to its last try
    v_now timestamptz := clock_timestamp();
    v_from timestamptz := v_now - p_within - c_tried_for;
begin
    return exists (
        select from tollwire.callback_endpoints e
        cross join lateral (
            select c.endpoint_id, c.message_id, c.outcome, c.done_at from tollwire.callbacks c
            where c.client_id = e.client_id and c.id > tollwire.uuid7_floor_v1(v_from) order by c.id desc limit c_looked_max) c
        left join lateral (select b.callback_url from tollwire.messages b where b.id = c.message_id offset 0) m on true
        where e.id = p_endpoint and c.endpoint_id = e.id and c.outcome = 'delivered' and c.done_at > v_now - p_within and coalesce(m.callback_url, e.url) = e.url);
end $$;

-- Leases receipts that are due again, the longest due first: those whose settler died, and those that wait for their reference.
create or replace function tollwire.lease_receipts_v1(p_limit integer, p_lease_seconds integer) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_from uuid := tollwire.uuid7_floor_v1(v_now - interval '31 days');
    v_ids uuid[];
begin
    select array_agg(c.id order by c.id) into v_ids
        from (select k.id from tollwire.receipts k
              where k.settled_at is null and k.due_at <= v_now and k.id > v_from
              order by k.due_at limit p_limit for update skip locked) c;
    -- By their ids and not by a join, as everywhere (ledger/functions/settle_holds_v1.sql).
    return query
        update tollwire.receipts k set due_at = v_now + p_lease_seconds * interval '1 second'
            where k.id = any (v_ids) and k.id between v_ids[1] and v_ids[cardinality(v_ids)] returning k.id;
end $$;

grant execute on function
    tollwire.load_callbacks_v1, tollwire.record_callbacks_v1, tollwire.lease_callbacks_v1, tollwire.has_taken_callbacks_v1,
    tollwire.lease_receipts_v1
    to tollwire_dlr;
