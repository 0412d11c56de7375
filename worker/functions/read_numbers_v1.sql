-- Whom work in hand is for whose carrier is away: what another one carries is claimed for that one, and all else need not be claimed at all.
-- o_is_bound: this carrier may have it, and is the only one that may be asked again, since it knows our ids (p_ask_again; see record_rest_v1).
-- o_left_seconds: for how long it is valid yet, which bounds how long it may be put off (put_off_work_v1).
-- Answers in the order of the array; an empty number where there is no such message any more.
create or replace function tollwire.read_numbers_v1(p_message uuid[], p_carrier smallint, p_ask_again boolean) returns table (o_msisdn text, o_is_test boolean, o_is_bound boolean, o_left_seconds double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    return query
        select coalesce(m.msisdn, ''), coalesce(m.is_test, false), p_ask_again and exists (
                   select from tollwire.attempts a
                   where a.message_id = x.id and a.message_id between v_min and v_max and a.carrier_id = p_carrier and a.outcome = 'uncertain'),
               coalesce(extract(epoch from m.valid_until - clock_timestamp()), 0)::double precision
        from unnest(p_message) with ordinality x(id, nth)
        left join lateral (select b.msisdn, b.is_test, b.valid_until from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on true
        order by x.nth;
end $$;

grant execute on function tollwire.read_numbers_v1 to tollwire_worker;
