-- Texts go when their time is over (RULES 29), never those of a message that may still be sent. A text is kept through the day expires_on;
-- 0001-01-01 means "gone at the final state", which end_messages_v1 sees to.

-- Deletes the expired among the next p_limit texts of a day. Only looks while something is due: a day is walked for the first time when it
-- has been over for a day (nothing comes any more, and nothing has expired before), and again when the first of the texts that it kept expires.
create or replace function tollwire.expire_texts_v1(p_day date, p_limit integer) returns table (o_seen bigint, o_deleted bigint, o_done boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    w tollwire.text_walks;
    r record;
    v_today date := (clock_timestamp() at time zone 'UTC')::date;
    v_from uuid := tollwire.uuid7_floor_v1(p_day::timestamp at time zone 'UTC');
    v_to uuid := tollwire.uuid7_floor_v1((p_day + 1)::timestamp at time zone 'UTC');
    v_last uuid;
    v_seen bigint;
    v_deleted bigint;
begin
    insert into tollwire.text_walks (day) values (p_day) on conflict do nothing;
    select * into strict w from tollwire.text_walks where day = p_day for update;
    if p_day >= v_today - 1 or w.emptied_at is not null or (w.walked_on is not null and w.walk_after is null and coalesce(w.first_expires_on >= v_today, true)) then
        return query select 0::bigint, 0::bigint, true;
        return;
    end if;
    v_from := coalesce(w.walk_after, v_from);
    select count(*), max(c.message_id::text collate "C")::uuid into v_seen, v_last
        from (select t.message_id from tollwire.message_texts t where t.message_id > v_from and t.message_id < v_to order by t.message_id limit p_limit) c;
    delete from tollwire.message_texts t
        where t.message_id > v_from and t.message_id <= v_last and t.expires_on < v_today
          and exists (select from tollwire.message_states s where s.message_id = t.message_id and s.message_id > v_from and s.message_id <= v_last and s.final_at is not null);
    get diagnostics v_deleted = row_count;
    -- What is over but not final yet is due again tomorrow.
    select count(*) as kept, min(greatest(t.expires_on, v_today)) as first, max(greatest(t.expires_on, v_today)) as last into r
        from tollwire.message_texts t where t.message_id > v_from and t.message_id <= v_last;
    update tollwire.text_walks
        set walk_after = v_last, walk_kept = walk_kept + r.kept, walk_first = least(walk_first, r.first), walk_last = greatest(walk_last, r.last)
        where day = p_day;
    if v_seen < p_limit then
        update tollwire.text_walks
            set walked_on = v_today, kept = walk_kept, first_expires_on = walk_first, last_expires_on = walk_last,
                walk_after = null, walk_kept = 0, walk_first = null, walk_last = null
            where day = p_day;
    end if;
    return query select v_seen, v_deleted, v_seen < p_limit;
end $$;

-- Empties a day's texts at once when none of them is to be kept: returns how many that were, or null when it is not time.
create or replace function tollwire.empty_texts_v1(p_day date) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    w tollwire.text_walks;
    v_partition regclass := to_regclass('tollwire.message_texts_' || to_char(p_day, 'YYYYMMDD'));
begin
    select * into w from tollwire.text_walks where day = p_day for update;
    if v_partition is null or w.walked_on is null or w.emptied_at is not null or w.walk_after is not null then
        return null;
    end if;
    -- Seen closed: every message of the day is final.
    if w.kept > 0 and not (w.last_expires_on < (clock_timestamp() at time zone 'UTC')::date
                           and exists (select from tollwire.day_inspections d where d.day = p_day and d.closed_at is not null)) then
        return null;
    end if;
    if w.kept = 0 and exists (select from tollwire.message_texts t where t.message_id >= tollwire.uuid7_floor_v1(p_day::timestamp at time zone 'UTC')
                                                                   and t.message_id < tollwire.uuid7_floor_v1((p_day + 1)::timestamp at time zone 'UTC')) then
        return null;
    end if;
    execute format('truncate table %s', v_partition);
    update tollwire.text_walks set emptied_at = clock_timestamp(), kept = 0 where day = p_day;
    return w.kept;
end $$;

grant execute on function tollwire.expire_texts_v1, tollwire.empty_texts_v1 to tollwire_ledger;
