-- Nobody runs a function that is not his (RULES 6); functions are made executable for everybody by default.
do $$
declare
    f record;
begin
    for f in select p.oid::regprocedure as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('tollwire', 'ledger') loop
        execute format('revoke execute on function %s from public', f.name);
    end loop;
    for f in select p.oid::regprocedure as name, r.role
             from (values ('uuid7_floor_v1', '{tollwire_api,tollwire_worker,tollwire_dlr,tollwire_ledger,tollwire_readonly}'::text[]),
                          ('next_state_v1', '{tollwire_ledger,tollwire_readonly}'), ('entry_hash_v1', '{tollwire_ledger,tollwire_readonly}'),
                          ('open_account_v1', '{tollwire_api}'), ('set_pacing_v1', '{tollwire_api}'), ('post_credit_v1', '{tollwire_api}'),
                          ('accept_batch_v1', '{tollwire_api}'), ('cancel_batch_v1', '{tollwire_api}'), ('return_leases_v1', '{tollwire_api,tollwire_ledger}'),
                          ('claim_batch_v1', '{tollwire_worker}'), ('record_batch_v1', '{tollwire_worker}'),
                          ('receive_batch_v1', '{tollwire_dlr,tollwire_worker}'), ('settle_batch_v1', '{tollwire_dlr}'), ('take_receipts_v1', '{tollwire_dlr}'), ('tell_again_v1', '{tollwire_dlr}'), ('load_callbacks_v1', '{tollwire_dlr}'),
                          ('record_callbacks_v1', '{tollwire_dlr}'), ('lease_callbacks_v1', '{tollwire_dlr}'), ('lease_receipts_v1', '{tollwire_dlr}'), ('has_taken_callbacks_v1', '{tollwire_dlr}'),
                          ('look_due_v1', '{tollwire_ledger}'), ('tidy_outbox_v1', '{tollwire_ledger}'), ('put_off_v1', '{tollwire_ledger}'), ('tell_dead_letters_v1', '{tollwire_ledger}'), ('watch_later_v1', '{tollwire_ledger}'), ('start_scheduled_v1', '{tollwire_ledger}'),
                          ('dispatch_due_v1', '{tollwire_ledger}'), ('recover_claims_v1', '{tollwire_ledger}'), ('expire_due_v1', '{tollwire_ledger}'),
                          ('walk_holds_v1', '{tollwire_ledger}'), ('expire_holds_v1', '{tollwire_ledger}'), ('make_partitions_v1', '{tollwire_ledger}'), ('set_watermark_v1', '{tollwire_ledger}')
                  ) g(name, roles)
             join pg_proc p on p.proname = g.name join pg_namespace n on n.oid = p.pronamespace and n.nspname in ('tollwire', 'ledger')
             cross join lateral unnest(g.roles) r(role) loop
        execute format('grant execute on function %s to %I', f.name, f.role);
    end loop;
end $$;
alter default privileges for role tollwire_owner revoke execute on functions from public;

select tollwire.make_partitions_v1((clock_timestamp() at time zone 'UTC')::date - 1, (clock_timestamp() at time zone 'UTC')::date + 7);
