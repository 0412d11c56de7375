-- Partitions (DESIGN 9, RULES 11, 28): a day each, but 12 hours for idempotency keys. One catalogue says how each table is cut.
create table tollwire.partition_rules (
    parent text primary key,
    cut text not null check (cut in ('uuid', 'time', 'date', 'slot')),
    storage text not null default ''
);
insert into tollwire.partition_rules values
    ('ledger.credit_locks', 'uuid', 'fillfactor = 70'), ('ledger.entries', 'date', ''),
    ('tollwire.messages', 'uuid', ''), ('tollwire.message_states', 'uuid', 'fillfactor = 50'), ('tollwire.message_texts', 'uuid', ''),
    ('tollwire.attempts', 'uuid', 'fillfactor = 60'), ('tollwire.carrier_references', 'time', ''), ('tollwire.receipts', 'uuid', 'fillfactor = 70'),
    ('tollwire.callbacks', 'uuid', 'fillfactor = 70'), ('tollwire.callback_attempts', 'uuid', ''), ('tollwire.dead_letters', 'uuid', ''),
    ('tollwire.idempotency_keys', 'slot', '');
grant select on tollwire.partition_rules to tollwire_ledger, tollwire_readonly;
