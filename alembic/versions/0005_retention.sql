-- What the ledger process may do for the upkeep. It reads the tables to archive them; every change goes through a function (RULES 6).
grant select on tollwire.day_inspections, tollwire.archived_days, tollwire.retired_days, tollwire.text_walks to tollwire_ledger, tollwire_readonly, tollwire_api;

do $$
declare
    f record;
begin
    for f in select p.oid::regprocedure as name, g.role
             from (values ('take_upkeep_v1', 'tollwire_ledger'), ('chunk_end_v1', 'tollwire_ledger'), ('inspect_day_v1', 'tollwire_ledger'),
                          ('day_blocker_v1', 'tollwire_ledger'), ('end_forgotten_v1', 'tollwire_ledger'), ('entries_blocker_v1', 'tollwire_ledger'),
                          ('note_archive_v1', 'tollwire_ledger'), ('retire_day_v1', 'tollwire_ledger'), ('partition_blocker_v1', 'tollwire_ledger'),
                          ('detach_partition_v1', 'tollwire_ledger'), ('drop_partition_v1', 'tollwire_ledger'),
                          ('expire_texts_v1', 'tollwire_ledger'), ('empty_texts_v1', 'tollwire_ledger'),
                          ('find_msisdn_v1', 'tollwire_ledger'), ('erase_answers_v1', 'tollwire_ledger'), ('erase_receipts_v1', 'tollwire_ledger'),
                          ('erase_messages_v1', 'tollwire_ledger'),
                          ('reseal_carriers_v1', 'tollwire_ledger'), ('reseal_callback_secrets_v1', 'tollwire_ledger'), ('key_id_v1', 'tollwire_ledger')
                  ) g(name, role)
             join pg_proc p on p.proname = g.name and p.pronamespace = 'tollwire'::regnamespace loop
        execute format('revoke execute on function %s from public', f.name);
        execute format('grant execute on function %s to %I', f.name, f.role);
    end loop;
end $$;
