create table tollwire.message_traces (
    message_id uuid not null primary key,
    trace_id uuid not null,
    span_id bigint not null
) partition by range (message_id);
comment on table tollwire.message_traces is 'The span that accepted a message, of the sampled ones only';
grant select on tollwire.message_traces to tollwire_readonly, tollwire_ledger;

insert into tollwire.partition_rules values ('tollwire.message_traces', 'uuid', '');
select tollwire.make_partitions_v1((clock_timestamp() at time zone 'UTC')::date - 1, (clock_timestamp() at time zone 'UTC')::date + 7);
