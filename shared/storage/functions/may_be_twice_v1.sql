-- Whether a message that is marked possible_duplicate may have gone out twice: two attempts of a part were made of which we know not that
-- nothing was written, or what was made since a restored moment is not known. Asked where its sending ends: until
-- then the mark says that it may have to go once more. A refusal is no proof here: of what was refused, nobody is quite sure.
create or replace function tollwire.may_be_twice_v1(p_message uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return exists (select from tollwire.attempts a where a.message_id = p_message and a.error_code = 'restored')
        or exists (select from tollwire.attempts a where a.message_id = p_message and a.outcome is distinct from 'unclaimed'
                   group by a.part_no having count(*) > 1);
end $$;
