-- `tollwire pii erase NUMBER` (RULES 29): a number and what was said to it go, the money's journal stays. Each function takes the next
-- p_limit rows from an id on and answers where it stopped (null: nothing was left). Answers before messages: an erasure that was cut off
-- finds everything again, since the message's number is what they are found by; and once more after them, by the pseudonym. Receipts last:
-- one that is settled before its message is erased keeps the number, one after it does not.

-- Finds the messages to a number, and those of them that have not ended.
create or replace function tollwire.find_msisdn_v1(p_msisdn text, p_after uuid, p_limit integer) returns table (o_last uuid, o_found uuid[], o_open uuid[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_last uuid;
    v_found uuid[];
    v_open uuid[];
begin
    select max(c.id::text collate "C")::uuid, coalesce(array_agg(c.id order by c.id) filter (where c.msisdn = p_msisdn), '{}') into v_last, v_found
        from (select m.id, m.msisdn from tollwire.messages m where m.id > p_after order by m.id limit p_limit) c;
    select coalesce(array_agg(s.message_id order by s.message_id), '{}') into v_open
        from tollwire.message_states s where s.message_id = any (v_found) and s.final_at is null;
    return query select v_last, v_found, v_open;
end $$;

-- Answers of clients' endpoints to callbacks that told of the number's messages.
create or replace function tollwire.erase_answers_v1(p_msisdn text, p_after uuid, p_limit integer) returns table (o_last uuid, o_erased bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_last uuid;
    v_ids uuid[];
    v_erased bigint;
begin
    select max(c.callback_id::text collate "C")::uuid, array_agg(distinct c.callback_id) into v_last, v_ids
        from (select t.callback_id from tollwire.callback_attempts t where t.callback_id > p_after order by t.callback_id limit p_limit) c;
    -- The limit may cut a callback's attempts in two: all of them go with the first that is seen.
    select array_agg(b.id) into v_ids
        from tollwire.callbacks b join tollwire.messages m on m.id = b.message_id where b.id = any (v_ids) and m.msisdn = p_msisdn;
    update tollwire.callback_attempts t set answer_head = null where t.callback_id = any (v_ids) and t.answer_head is not null;
    get diagnostics v_erased = row_count;
    return query select v_last, v_erased;
end $$;

-- The number in carriers' receipts. One that is not settled yet needs it to find its message, so it is left and counted. One that never had
-- a message may tell the number without its country's code, and fits as match_receipts_v1 has it: it may be another's.
create or replace function tollwire.erase_receipts_v1(p_msisdn text, p_after uuid, p_limit integer) returns table (o_last uuid, o_erased bigint, o_waiting bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_last uuid;
    v_ids uuid[];
    v_erased bigint;
begin
    select max(c.id::text collate "C")::uuid, coalesce(array_agg(c.id) filter (where c.msisdn = p_msisdn or c.message_id is null and length(p_msisdn) - length(c.msisdn) between 1 and 3
                                                                                                  and right(p_msisdn, length(c.msisdn) - 1) = substr(c.msisdn, 2)), '{}') into v_last, v_ids
        from (select k.id, k.msisdn, k.message_id from tollwire.receipts k where k.id > p_after order by k.id limit p_limit) c;
    perform 1 from tollwire.receipts where id = any (v_ids) order by id for update;
    update tollwire.receipts k set msisdn = null where k.id = any (v_ids) and k.settled_at is not null;
    get diagnostics v_erased = row_count;
    return query select v_last, v_erased, cardinality(v_ids) - v_erased;
end $$;

-- The messages themselves: the number becomes a pseudonym, the texts go, and so does what carriers said of the attempts in their own words.
-- A message that has not ended is left alone. At most some thousands a call.
create or replace function tollwire.erase_messages_v1(p_message uuid[], p_msisdn text, p_pseudonym text) returns table (o_erased bigint, o_texts bigint, o_open uuid[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_final uuid[];
    v_open uuid[];
    v_erased bigint;
    v_texts bigint;
begin
    -- ITU-T has assigned +999 to nobody.
    if p_pseudonym !~ '^\+999[0-9]{12}$' then
        raise exception '% could be somebody''s number', p_pseudonym using errcode = 'invalid_parameter_value';
    end if;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    select coalesce(array_agg(s.message_id order by s.message_id) filter (where s.final_at is not null), '{}'),
           coalesce(array_agg(s.message_id order by s.message_id) filter (where s.final_at is null), '{}')
        into v_final, v_open
        from tollwire.message_states s join tollwire.messages m on m.id = s.message_id where s.message_id = any (p_message) and m.msisdn = p_msisdn;
    delete from tollwire.message_texts where message_id = any (v_final);
    get diagnostics v_texts = row_count;
    update tollwire.attempts set error_detail = null where message_id = any (v_final) and error_detail is not null;
    update tollwire.messages set msisdn = p_pseudonym where id = any (v_final) and msisdn = p_msisdn;
    get diagnostics v_erased = row_count;
    return query select v_erased, v_texts, v_open;
end $$;

grant execute on function
    tollwire.find_msisdn_v1, tollwire.erase_answers_v1, tollwire.erase_receipts_v1, tollwire.erase_messages_v1
    to tollwire_ledger;
