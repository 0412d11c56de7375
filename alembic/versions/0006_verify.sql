-- What was asked for by name is as final as its entry (RULES 25).
create trigger operations_append_only before update or delete on ledger.operations for each row execute function ledger.refuse_change();
create trigger operations_no_truncate before truncate on ledger.operations for each statement execute function ledger.refuse_change();

-- A verification asks how long a hold may last.
grant select (no_receipt_seconds) on tollwire.carriers to tollwire_readonly;

-- A day is closed, and its seal proved, by its own checkpoints; the primary key leads with the account.
create index checkpoints_day on ledger.checkpoints (day, account_id);
