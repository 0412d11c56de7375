-- Functions that decide on money lock first and read later; under another isolation the later read is stale (RULES 2).
create or replace function ledger.require_read_committed_v1() returns void
language plpgsql volatile as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'this function decides on money and runs only at READ COMMITTED, not at %', current_setting('transaction_isolation')
            using errcode = 'invalid_transaction_state';
    end if;
end $$;
