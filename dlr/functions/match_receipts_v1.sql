-- Where a reference alone decides nothing (it leads to several, or to none that is open): what each receipt belongs to, by everything
-- that it tells (RULES 24). o_outcome: done, ambiguous, waiting, early or unmatched, and null where a message was found. Answers in the
-- order of the array; all null for an id that is no receipt.
-- early: all that has this reference is over, and the receipt says nothing that shows that it is about that. A carrier's counter may have
-- begun anew: the answer that gives the name to the message that is meant may be recorded after its receipt came. It waits till none can.
-- A number is told with its country's code, or without it: then all but the first one to three digits of the message's are there. Where
-- that fits by chance, the carrier and its reference, or our id, would have to fit by the same chance; and whose number it is to the last
-- digit comes first.
-- A message that we submit whole has one part for us, and several for a carrier that tells of each: a part that is lost is the message's
-- end, all else of a part after the first is noted (the message stands beside it) and decides nothing.
create or replace function tollwire.match_receipts_v1(p_receipt uuid[], p_keep_hours integer)
returns table (o_nth integer, o_message uuid, o_attempt smallint, o_part smallint, o_client bigint, o_outcome text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    c_match_window constant interval := '7 days';
    c_erased constant text := '+999%';  -- nobody's number: erase_messages_v1 writes it where a number was erased. Such a message fits any, behind others
    c_record_window constant interval := '3 minutes';  -- from a claim's deadline: later than that no worker records its outcome
    v_now timestamptz := clock_timestamp();
    v_soon timestamptz := v_now + interval '1 minute';  -- nothing was submitted after it: days to come need no look
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_receipt) m;
    return query
        select t.nth, case when t.is_found then t.message_id end, case when t.is_found then t.attempt_no end,
               case when t.is_found then t.part_no end, case when t.is_found then t.client_id end, t.outcome
        from (
            select y.*, o.outcome, coalesce(o.outcome, 'noted') = 'noted' as is_found
            from (
                select x.nth::integer as nth, k.id, k.settled_at, k.received_at, k.state, k.part_no as named_no, row_number() over (partition by x.id order by x.nth) > 1 as is_again,
                       case when e.message_id is null and not d.is_denied then c.message_id when not e.is_doubtful then e.message_id end as message_id,
                       coalesce(e.attempt_no, c.attempt_no) as attempt_no, coalesce(e.part_no, c.part_no) as part_no,
                       coalesce(e.client_id, c.client_id) as client_id, e.message_id is null and d.is_old as is_old, case when e.message_id is null then coalesce(c.open_count, 0) else 1 end as open_count
                from unnest(p_receipt) with ordinality x(id, nth)
                left join lateral (select * from tollwire.receipts r where r.id = x.id and r.id between v_min and v_max offset 0) k on true
                left join lateral (
                    -- Attempts of one message under one reference are one submit that was asked again; parts and messages are counted.
                    select y.message_id, y.attempt_no, y.part_no, y.client_id, y.fits and k.msisdn is not null as is_named, y.is_open, y.receipt_at,
                           max(y.place) filter (where y.is_open) over (partition by y.is_exact) as open_count
                    from (select f.message_id, f.attempt_no, f.part_no, f.submitted_at, m.client_id, m.fits, m.is_exact, w.is_open, w.receipt_at,
                                 dense_rank() over (partition by w.is_open, m.is_exact order by f.message_id, f.part_no) as place
                          from tollwire.carrier_references f
                          cross join lateral (
                              select c.msisdn, c.client_id, c.msisdn = k.msisdn as is_exact,
                                     k.msisdn is null or c.msisdn = k.msisdn or length(c.msisdn) - length(k.msisdn) between 1 and 3 and right(c.msisdn, length(k.msisdn) - 1) = substr(k.msisdn, 2) as fits
                              from tollwire.messages c where c.id = f.message_id offset 0) m
                          cross join lateral (
                              select (c.receipt is null or c.receipt in ('enroute', 'accepted', 'unknown')) and m.fits as is_open, c.receipt_at from tollwire.attempts c
                              where c.message_id = f.message_id and c.attempt_no = f.attempt_no and c.part_no = f.part_no offset 0) w
                          where f.carrier_id = k.carrier_id and f.reference = k.reference and f.submitted_at > k.received_at - c_match_window
                            and f.submitted_at <= k.received_at + c_match_window and f.submitted_at <= v_soon
                            and (m.fits or m.msisdn like c_erased) and (k.part_no is null or k.part_no = f.part_no or (
                                select c.parts_total = 1 from tollwire.message_states c where c.message_id = f.message_id))) y
                    order by coalesce(y.is_exact, false) desc, y.fits desc, y.is_open desc, y.submitted_at desc, y.attempt_no desc, y.part_no
                    limit 1) c on k.settled_at is null
                -- Where the reference alone finds nothing (its reply was lost), too much, or another message than the carrier echoes, our own id
                -- decides, if everything else fits: this carrier had this attempt of this message to this number, and has not refused it, or has
                -- told of it all the same. Which of several parts, it does not say. What the reference finds and is closed is a repetition: the id
                -- would lead it to another part. So would it where the reference stands for several parts of this message: then only an attempt
                -- of that name fits.
                left join lateral (
                    select y.message_id, y.attempt_no, y.part_no, y.client_id,
                           -- Of several attempts without a name it may be any: the answers that are still to come say which. Delivered is
                           -- delivered by any of them.
                           not y.knows_ids and y.reference is null and y.fitting > 1 and y.is_early and k.state <> 'delivered' as is_doubtful
                    from (select a.message_id, a.attempt_no, a.part_no, a.reference, a.receipt, m.client_id, i.idempotent_submit as knows_ids, count(*) over () as fitting,
                                 bool_or(a.outcome is null or a.claimed_at > v_now - c_record_window - i.submit_deadline_seconds * interval '1 second') over () as is_early
                          from tollwire.attempts a
                          cross join lateral (
                              select c.msisdn, c.client_id,
                                     k.msisdn is null or c.msisdn = k.msisdn or length(c.msisdn) - length(k.msisdn) between 1 and 3 and right(c.msisdn, length(k.msisdn) - 1) = substr(k.msisdn, 2) as fits
                              from tollwire.messages c where c.id = a.message_id offset 0) m
                          cross join lateral (select c.idempotent_submit, c.submit_deadline_seconds from tollwire.carriers c where c.id = a.carrier_id offset 0) i
                          where a.message_id = k.echo_message_id and a.carrier_id = k.carrier_id and (k.echo_attempt_no is null or a.attempt_no = k.echo_attempt_no)
                            and (k.part_no is null or a.part_no = k.part_no or (select c.parts_total = 1 from tollwire.message_states c where c.message_id = a.message_id))
                            and (m.fits or m.msisdn like c_erased)
                            and (a.outcome is null or a.outcome in ('submitted', 'uncertain') or a.receipt is not null) and a.claimed_at > k.received_at - c_match_window
                            -- What has a name of its own is not meant by another, unless it was the only try, or any try is the same submit.
                            and (a.reference is null or a.reference = k.reference or k.echo_attempt_no is not null or i.idempotent_submit or not exists (
                                select from tollwire.attempts o
                                where o.message_id = a.message_id and o.part_no = a.part_no and o.attempt_no <> a.attempt_no and o.carrier_id = a.carrier_id))
                            and (c.message_id is null or a.reference = k.reference or not exists (
                                select from tollwire.carrier_references f
                                where f.carrier_id = k.carrier_id and f.reference = k.reference and f.message_id = a.message_id and (k.part_no is null or f.part_no = k.part_no)
                                  and f.submitted_at > k.received_at - c_match_window and f.submitted_at <= v_soon))
                            and (k.part_no is not null or not exists (
                                select from tollwire.attempts o where o.message_id = a.message_id and o.attempt_no = a.attempt_no and o.part_no <> a.part_no))) y
                    order by coalesce(y.reference = k.reference, false) desc, case when y.knows_ids then -y.attempt_no end,
                             y.receipt is null or y.receipt in ('enroute', 'accepted', 'unknown') desc, y.attempt_no, y.part_no
                    limit 1) e on k.settled_at is null and k.echo_message_id is not null and (c.message_id is null or c.open_count > 1 or c.message_id <> k.echo_message_id)
                -- An id that this carrier had from us says that it is not the other message, also where nothing of it fits.
                cross join lateral (
                    select c.message_id <> k.echo_message_id and exists (
                               select from tollwire.attempts o where o.message_id = k.echo_message_id and o.carrier_id = k.carrier_id) as is_denied,
                           -- Its number, our id, and the date of the word that closed it show that it is meant.
                           c.is_named is not true and c.message_id is distinct from k.echo_message_id and (c.is_open or c.receipt_at is null or c.receipt_at is distinct from k.done_at)
                           and (not c.is_open or (select s.final_at is not null from tollwire.message_states s where s.message_id = c.message_id))
                           and k.received_at > v_now - c_record_window - (select i.submit_deadline_seconds * interval '1 second' from tollwire.carriers i where i.id = k.carrier_id) as is_old) d
            ) y
            cross join lateral (
                select case when y.id is null then null when y.settled_at is not null or y.is_again then 'done' when y.open_count > 1 then 'ambiguous'
                            when y.message_id is not null and y.is_old then 'early'
                            when y.message_id is not null then case when y.named_no <> y.part_no and y.state not in ('undelivered', 'expired', 'rejected') then 'noted' end
                            when y.received_at > v_now - p_keep_hours * interval '1 hour' then 'waiting' else 'unmatched' end as outcome) o
        ) t
        order by t.nth;
end $$;
