-- Retiring days and their partitions. p_manifest: {"tables": {"tollwire.messages": {"rows": 3, ...}, ...}, ...}.

-- The first thing that still needs a day's entries; null: nothing does. The chain goes on from the day's checkpoints, so the oldest day
-- goes first, its checkpoints are sealed, and no hold of that day is online any more.
create or replace function tollwire.entries_blocker_v1(p_day date) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_day date;
    v_seal ledger.seals;
    v_checkpoints bigint;
begin
    if not exists (select from ledger.entries where day = p_day) then
        return null;
    end if;
    select min(to_date(right(c.relname, 8), 'YYYYMMDD')) into v_day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.credit_locks'::regclass;
    if v_day <= p_day + 1 then
        return format('the holds of %s are still online', v_day);
    end if;
    select min(to_date(right(c.relname, 8), 'YYYYMMDD')) into v_day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.entries'::regclass;
    if v_day < p_day then
        return format('the entries of %s go first', v_day);
    end if;
    select * into v_seal from ledger.seals where day = p_day;
    if not found then
        return 'the day is not sealed';
    end if;
    select count(*) into v_checkpoints from ledger.checkpoints where day = p_day;
    if v_checkpoints <> v_seal.accounts then
        return format('its seal is over %s accounts and there are %s checkpoints', v_seal.accounts, v_checkpoints);
    end if;
    return null;
end $$;

-- Notes that a part of a day is in the archive, read back and found whole. Refuses (null: noted) when the day is not done with
-- or the counts are not those of the day.
create or replace function tollwire.note_archive_v1(p_day date, p_part text, p_manifest jsonb) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    d tollwire.day_inspections;
    v_reason text;
    v_rows bigint := (p_manifest #>> '{tables,ledger.entries,rows}')::bigint;
begin
    v_reason := case p_part when 'messages' then tollwire.day_blocker_v1(p_day) else tollwire.entries_blocker_v1(p_day) end;
    if v_reason is null and p_part = 'messages' then
        select * into d from tollwire.day_inspections where day = p_day;
        if (p_manifest #>> '{tables,tollwire.message_states,rows}')::bigint is distinct from d.states
           or (p_manifest #>> '{tables,tollwire.messages,rows}')::bigint is distinct from d.states
           or (p_manifest #>> '{tables,ledger.credit_locks,rows}')::bigint is distinct from d.locks then
            v_reason := format('the day has %s messages, the archive does not', d.states);
        end if;
    elsif v_reason is null and v_rows is distinct from coalesce((select s.entries from ledger.seals s where s.day = p_day), 0) then
        v_reason := format('the archive has %s entries, the seal does not', v_rows);
    end if;
    if v_reason is null then
        insert into tollwire.archived_days (day, part, manifest) values (p_day, p_part, p_manifest)
            on conflict (day, part) do update set manifest = excluded.manifest, at = clock_timestamp();
    end if;
    return v_reason;
end $$;

-- Declares a day retired; from then on its partitions may go. Answers the reason when it may not be (null: it is).
-- p_keep_days: younger days stay; never less than 30 for messages, 60 for entries. p_unarchived: the operator wants no archive.
create or replace function tollwire.retire_day_v1(p_day date, p_part text, p_keep_days integer, p_unarchived boolean) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    c_messages_days_min constant integer := 30;
    c_entries_days_min constant integer := 60;
    v_reason text;
    v_older date;
    v_manifest jsonb;
begin
    if exists (select from tollwire.retired_days where day = p_day and (p_part = 'messages' or entries_at is not null)) then
        return null;
    end if;
    if p_day > (clock_timestamp() at time zone 'UTC')::date - greatest(p_keep_days, case p_part when 'messages' then c_messages_days_min else c_entries_days_min end) then
        return 'it is too young';
    end if;
    v_reason := case p_part when 'messages' then tollwire.day_blocker_v1(p_day) else tollwire.entries_blocker_v1(p_day) end;
    if v_reason is not null then
        return v_reason;
    end if;
    -- Oldest first: whoever proves the books knows by the oldest partition which entries have their locks online.
    select min(to_date(right(c.relname, 8), 'YYYYMMDD')) into v_older
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'ledger.credit_locks'::regclass and not exists (select from tollwire.retired_days r where to_char(r.day, 'YYYYMMDD') = right(c.relname, 8));
    if p_part = 'messages' and v_older < p_day then
        return format('%s goes first', v_older);
    end if;
    select a.manifest into v_manifest from tollwire.archived_days a where a.day = p_day and a.part = p_part;
    if v_manifest is null and not p_unarchived then
        return 'it is not in the archive';
    end if;
    v_manifest := coalesce(v_manifest, '{"archived": false}'::jsonb);
    if p_part = 'messages' then
        insert into tollwire.retired_days (day, manifest) values (p_day, v_manifest);
    else
        -- A day from before the oldest messages has no row yet.
        insert into tollwire.retired_days as r (day, manifest, entries_at, entries_manifest) values (p_day, '{"archived": false}', clock_timestamp(), v_manifest)
            on conflict (day) do update set entries_at = excluded.entries_at, entries_manifest = excluded.entries_manifest;
    end if;
    return null;
end $$;

-- Whether a partition may go, and if not why: by what its table is cut.
create or replace function tollwire.partition_blocker_v1(p_parent text, p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    c_slots_kept constant integer := 7;  -- accept looks back 72 h, six slots before its own; and one more
    c_reference_days_min constant integer := 11;  -- a receipt matches for 7 days and waits for 3
    v_now timestamptz := clock_timestamp();
    v_cut text;
    v_day date;
    v_end timestamptz;
    v_from uuid;
    v_to uuid;
    v_open uuid;
begin
    select r.cut into v_cut from tollwire.partition_rules r where r.parent = p_parent;
    if v_cut is null or p_name !~ ('^' || split_part(p_parent, '.', 2) || '_[0-9]{8}' || case v_cut when 'slot' then '[ab]' else '' end || '$') then
        return format('%s is no partition of %s', p_name, p_parent);
    end if;
    v_day := to_date(substr(p_name, length(split_part(p_parent, '.', 2)) + 2, 8), 'YYYYMMDD');
    v_end := (v_day + 1)::timestamp at time zone 'UTC';
    case v_cut
        when 'slot' then
            if floor(extract(epoch from v_now) / 43200) - (floor(extract(epoch from v_end) / 43200) - case right(p_name, 1) when 'a' then 2 else 1 end) <= c_slots_kept then
                return 'its keys may still be asked for';
            end if;
        when 'time' then
            if v_end + c_reference_days_min * interval '1 day' > v_now then
                return 'a receipt may still ask for its references';
            end if;
            if exists (select from tollwire.receipts k where k.settled_at is null and k.received_at < v_end + interval '7 days') then
                return 'a receipt that may be of this day is not settled';
            end if;
        when 'date' then
            if not exists (select from tollwire.retired_days r where r.day = v_day and r.entries_at is not null) then
                return 'the entries of the day are not retired';
            end if;
        else
            if not exists (select from tollwire.retired_days r where r.day = v_day) then
                return 'the day is not retired';
            end if;
            -- A client's replay that began before the day was retired may have opened one since. It goes out first, with the tables that it
            -- is told from. In an order here and below, so that it is read from the index of what is open, which has none of what is done.
            v_from := tollwire.uuid7_floor_v1(v_day::timestamp at time zone 'UTC');
            v_to := tollwire.uuid7_floor_v1(v_end);
            select c.id into v_open from tollwire.callbacks c
                where c.done_at is null and c.id >= v_from and (c.id < v_to or c.message_id >= v_from and c.message_id < v_to)
                order by c.endpoint_id limit 1;
            if found then
                return format('callback %s is open', v_open);
            end if;
    end case;
    return null;
end $$;

-- Takes a partition off its table. Waits 50 ms for the table's lock, so that it never holds up the hot path for longer: whoever calls
-- tries again later (55P03). DETACH ... CONCURRENTLY needs no such lock, but it cannot run inside a function, and only the owner may.
create or replace function tollwire.detach_partition_v1(p_parent text, p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' set enable_seqscan = off as $$
declare
    v_reason text := tollwire.partition_blocker_v1(p_parent, p_name);
    v_partition regclass := to_regclass(format('%I.%I', split_part(p_parent, '.', 1), p_name));
    v_open uuid;
begin
    if v_reason is null and exists (select from pg_inherits i where i.inhrelid = v_partition and i.inhparent = p_parent::regclass) then
        execute format('alter table %s detach partition %s', p_parent::regclass, v_partition);
        if p_parent = 'tollwire.callbacks' then
            -- Nobody writes there from here on. What was opened after the look above is work for dlr: nothing was detached.
            execute format('select c.id from %s c where c.done_at is null order by c.endpoint_id limit 1', v_partition) into v_open;
            if v_open is not null then
                raise exception 'callback % was opened meanwhile', v_open using errcode = 'lock_not_available';
            end if;
        end if;
    end if;
    return v_reason;
end $$;

-- Drops what was taken off: nobody reads it any more, and the table it came from is not locked. With a day's dead letters goes what became
-- of them, which they alone are asked by; so many at once that the call ends in time, and the table goes with the last.
create or replace function tollwire.drop_partition_v1(p_parent text, p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    v_reason text := tollwire.partition_blocker_v1(p_parent, p_name);
    v_table regclass := to_regclass(format('%I.%I', split_part(p_parent, '.', 1), p_name));
    c_replays_max constant integer := 100000;
    v_day date; v_rows integer;
begin
    if v_reason is null and exists (select from pg_inherits i where i.inhrelid = v_table) then
        v_reason := 'it has not been detached';
    end if;
    if v_reason is null and p_parent = 'tollwire.dead_letters' then
        v_day := to_date(right(p_name, 8), 'YYYYMMDD');
        delete from tollwire.replays r where (r.replay_of, r.number) in (
            select c.replay_of, c.number from tollwire.replays c
            where c.replay_of >= tollwire.uuid7_floor_v1(v_day::timestamp at time zone 'UTC')
              and c.replay_of < tollwire.uuid7_floor_v1((v_day + 1)::timestamp at time zone 'UTC')
            order by c.replay_of, c.number limit c_replays_max);
        get diagnostics v_rows = row_count;
        if v_rows = c_replays_max then
            v_reason := format('more than %s replays of it are to go', c_replays_max);
        end if;
    end if;
    if v_reason is null and v_table is not null then
        execute format('drop table %s', v_table);
    end if;
    return v_reason;
end $$;

grant execute on function
    tollwire.entries_blocker_v1, tollwire.note_archive_v1, tollwire.retire_day_v1, tollwire.partition_blocker_v1,
    tollwire.detach_partition_v1, tollwire.drop_partition_v1
    to tollwire_ledger;
