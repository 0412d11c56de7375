-- Clients and what they may do; messages and what becomes of them (DESIGN 2, 3, 9; RULES 10 to 36).

create type tollwire.lane as enum ('express', 'normal', 'bulk');
create type tollwire.message_state as enum ('SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'FAILED_TEMP', 'UNKNOWN',
    'DELIVERED', 'UNDELIVERED', 'EXPIRED', 'FAILED_PERM', 'CANCELLED');
create type tollwire.message_event as enum ('due', 'claimed', 'unclaimed', 'submitted', 'throttled', 'refused_temp', 'refused_perm',
    'uncertain', 'asked_again', 'outcome_wait_ended', 'delivered', 'undelivered', 'carrier_expired', 'receipt_wait_ended',
    'validity_ended', 'cancelled', 'no_route', 'suspended');
create type tollwire.delivery as enum ('at_most_once', 'at_least_once');
create type tollwire.charge as enum ('delivered', 'submitted');
create type tollwire.attempt_outcome as enum ('submitted', 'throttled', 'refused_temp', 'refused_perm', 'uncertain', 'unclaimed');
create type tollwire.receipt_state as enum ('delivered', 'undelivered', 'expired', 'rejected', 'enroute', 'accepted', 'unknown');

-- Configuration: small tables, cached in every process, one version number that a poll a second watches (RULES 32).
create table tollwire.config_version (
    only_row boolean primary key default true check (only_row),
    version bigint not null default 1,
    callbacks bigint not null default 1
);
comment on column tollwire.config_version.callbacks is 'The version of endpoints and their secrets, which clients change themselves: only who needs those looks at it';
insert into tollwire.config_version default values;
create function tollwire.bump_config_version() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update tollwire.config_version set version = version + 1;
    return null;
end $$;
create function tollwire.bump_callbacks_version() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update tollwire.config_version set callbacks = callbacks + 1;
    return null;
end $$;

create table tollwire.clients (
    id bigint primary key references ledger.accounts (id),
    name text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    suspended boolean not null default false,
    requests_per_minute integer not null default 10000 check (requests_per_minute between 1 and 10000000),
    requests_burst integer not null default 1000 check (requests_burst between 1 and 1000000),
    -- Pacing: 0 means "as fast as the carriers take it". Kept in step with ledger.accounts.dispatch_interval_us.
    messages_per_second integer not null default 0 check (messages_per_second between 0 and 1000000),
    charge tollwire.charge not null default 'delivered',
    partial_charge boolean not null default false,
    waive_late_capture boolean not null default false,
    allowed_senders text[] check (allowed_senders is null or cardinality(allowed_senders) between 1 and 1000),
    default_sender text not null default 'Tollwire' check (length(default_sender) between 1 and 16),
    allowed_countries text[] check (allowed_countries is null or cardinality(allowed_countries) <= 300),
    allowed_callback_hosts text[] not null default '{}',
    text_retention_days smallint not null default 7 check (text_retention_days between 0 and 30),
    created_at timestamptz not null default clock_timestamp()
);

create table tollwire.api_keys (
    key_id text primary key check (key_id ~ '^[0-9A-Za-z]{12}$'),
    client_id bigint references tollwire.clients (id),
    name text not null default '',
    secret_hash bytea not null,
    is_test boolean not null default false,
    scopes text[] not null,
    allowed_ips cidr[],
    expires_at timestamptz check (isfinite(expires_at)),
    revoked_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    check ((client_id is null) = ('admin' = any (scopes))), -- whoever administers belongs to no client, and no client administers
    check (client_id is not null or not is_test) -- an operator's key has no simulator to stay in
);
create index api_keys_client on tollwire.api_keys (client_id);
-- Apart from api_keys, so that noting the use of a key does not change the configuration's version.
create table tollwire.api_key_uses (
    key_id text primary key,
    last_used_at timestamptz not null
) with (fillfactor = 70);

create table tollwire.rates (
    id bigint generated always as identity primary key,
    client_id bigint references tollwire.clients (id),
    prefix text not null check (prefix ~ '^[1-9][0-9]{0,14}$'),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    price_micros bigint not null check (price_micros >= 0),
    since_version bigint not null,
    until_version bigint check (until_version > since_version),
    created_at timestamptz not null default clock_timestamp()
);
create unique index rates_live on tollwire.rates (coalesce(client_id, 0), currency, prefix) where until_version is null;
comment on table tollwire.rates is 'Price of a segment by longest prefix; client_id null is the list for everybody. Old rows stay: a rate_version can always be read again.';

create table tollwire.carriers (
    id smallint generated by default as identity primary key,
    name text not null unique check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    kind text not null,
    settings jsonb not null,
    secret_sealed bytea,
    enabled boolean not null default true,
    is_simulator boolean not null default false,
    idempotent_submit boolean not null default false,
    can_query boolean not null default false,
    splits_parts boolean not null default false,
    rate_per_second integer not null default 0 check (rate_per_second >= 0),
    window_max integer not null default 1000 check (window_max between 1 and 100000),
    submit_deadline_seconds integer not null default 60 check (submit_deadline_seconds between 4 and 600),
    no_receipt_policy text not null default 'release' check (no_receipt_policy in ('release', 'capture')),
    receipt_wait_seconds integer not null default 3600 check (receipt_wait_seconds between 1 and 604800),
    no_receipt_seconds integer not null default 259200 check (no_receipt_seconds between 1 and 604800),
    created_at timestamptz not null default clock_timestamp()
);
create table tollwire.routes (
    prefix text not null check (prefix ~ '^[0-9]{0,15}$'),
    priority smallint not null default 1,
    carrier_id smallint not null references tollwire.carriers (id),
    primary key (prefix, priority)
);

create table tollwire.callback_endpoints (
    id bigint generated always as identity primary key,
    client_id bigint not null unique references tollwire.clients (id),
    url text not null check (length(url) <= 2048),
    events text[] not null default '{message.delivered,message.undelivered,message.expired,message.failed,message.cancelled,message.late_receipt}',
    keep_answers boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
create table tollwire.callback_secrets (
    id bigint generated always as identity primary key,
    endpoint_id bigint not null references tollwire.callback_endpoints (id) on delete cascade,
    sealed bytea not null,
    expires_at timestamptz,
    created_at timestamptz not null default clock_timestamp()
);
create index callback_secrets_endpoint on tollwire.callback_secrets (endpoint_id);
-- Apart from callback_endpoints: health changes often and is not configuration.
create table tollwire.callback_health (
    endpoint_id bigint primary key references tollwire.callback_endpoints (id) on delete cascade,
    open_until timestamptz,
    failing_since timestamptz,
    consecutive_failures integer not null default 0,
    disabled_at timestamptz,
    disabled_reason text
) with (fillfactor = 70);

create trigger bump after insert or update or delete or truncate on tollwire.clients for each statement execute function tollwire.bump_config_version();
create trigger bump after insert or update or delete or truncate on tollwire.api_keys for each statement execute function tollwire.bump_config_version();
create trigger bump after insert or update or delete or truncate on tollwire.rates for each statement execute function tollwire.bump_config_version();
create trigger bump after insert or update or delete or truncate on tollwire.carriers for each statement execute function tollwire.bump_config_version();
create trigger bump after insert or update or delete or truncate on tollwire.routes for each statement execute function tollwire.bump_config_version();
create trigger bump after insert or update or delete or truncate on tollwire.callback_endpoints for each statement execute function tollwire.bump_callbacks_version();
create trigger bump after insert or update or delete or truncate on tollwire.callback_secrets for each statement execute function tollwire.bump_callbacks_version();

create table tollwire.audit_trail (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    address inet,
    action text not null,
    target text not null,
    before jsonb,
    after jsonb,
    reason text
);
create index audit_trail_target on tollwire.audit_trail (target, id);
create trigger audit_append_only before update or delete on tollwire.audit_trail for each row execute function ledger.refuse_change();
create trigger audit_no_truncate before truncate on tollwire.audit_trail for each statement execute function ledger.refuse_change();

-- Idempotency (RULES 10, 11): partitions of 12 hours; uniqueness across them comes from the account's lock.
create table tollwire.idempotency_keys (
    slot integer not null,
    account_id bigint not null,
    key text not null,
    item smallint not null,
    fingerprint bytea not null,
    fingerprint_version smallint not null,
    message_id uuid not null,
    problem text,
    problem_args jsonb,
    created_at timestamptz not null,
    primary key (account_id, key, item, slot)
) partition by range (slot);
comment on column tollwire.idempotency_keys.problem is 'null: accepted; else the code of the refusal that stands under this key';

create table tollwire.messages (
    id uuid not null primary key,
    client_id bigint not null,
    msisdn text not null,
    region text not null,
    sender text not null,
    lane tollwire.lane not null,
    encoding text not null check (encoding in ('GSM7', 'UCS2')),
    segments smallint not null check (segments between 1 and 255),
    price_micros bigint not null check (price_micros >= 0),
    currency text not null,
    rate_version bigint not null,
    client_ref text,
    delivery tollwire.delivery not null,
    charge tollwire.charge not null,
    send_at timestamptz,
    valid_until timestamptz not null,
    callback_url text,
    is_test boolean not null,
    replay_of uuid,
    created_at timestamptz not null
) partition by range (id);
create index messages_client on tollwire.messages (client_id, id);

-- The part that changes, narrow (DESIGN 9).
create table tollwire.message_states (
    message_id uuid not null primary key,
    state tollwire.message_state not null,
    attempt_no smallint not null default 0,
    tries smallint not null default 0,
    carrier_id smallint,
    parts_total smallint not null default 1,
    parts_delivered smallint not null default 0,
    sequence smallint not null default 0,
    possible_duplicate boolean not null default false,
    late_receipt boolean not null default false,
    claim_id uuid,
    claim_deadline timestamptz,
    submitted_at timestamptz,
    final_at timestamptz,
    updated_at timestamptz not null,
    error_code text,
    check ((final_at is not null) = (state in ('DELIVERED', 'UNDELIVERED', 'EXPIRED', 'FAILED_PERM', 'CANCELLED')))
) partition by range (message_id);

create function tollwire.refuse_move() returns trigger language plpgsql as $$
begin
    raise exception 'message % cannot move from % to %', old.message_id, old.state, new.state using errcode = 'restrict_violation';
end $$;

create table tollwire.message_texts (
    message_id uuid not null primary key,
    sealed bytea not null,
    expires_on date not null
) partition by range (message_id);

create table tollwire.outbox (
    message_id uuid primary key,
    lane tollwire.lane not null,
    carrier_id smallint not null,
    dispatch_no integer not null default 1,
    -- The next moment at which somebody must look: when it may be dispatched, or when its lease ends.
    due_at timestamptz not null,
    dispatch_at timestamptz not null,
    leased_at timestamptz,
    lease_seconds integer not null default 60,
    -- Which life of the stream it was published to (ms since the epoch of its creation); 0: to none.
    incarnation bigint not null default 0
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create index outbox_due on tollwire.outbox (due_at);

create table tollwire.attempts (
    message_id uuid not null,
    attempt_no smallint not null,
    part_no smallint not null,
    carrier_id smallint not null,
    claimed_at timestamptz not null,
    outcome tollwire.attempt_outcome,
    outcome_at timestamptz,
    reference text,
    error_code text,
    error_detail text,
    receipt tollwire.receipt_state,
    receipt_at timestamptz,
    primary key (message_id, attempt_no, part_no)
) partition by range (message_id);

create table tollwire.carrier_references (
    carrier_id smallint not null,
    reference text not null,
    submitted_at timestamptz not null,
    message_id uuid not null,
    attempt_no smallint not null,
    part_no smallint not null
) partition by range (submitted_at);
create index carrier_references_lookup on tollwire.carrier_references (carrier_id, reference);

create table tollwire.receipts (
    id uuid not null primary key,
    carrier_id smallint not null,
    reference text not null,
    state tollwire.receipt_state not null,
    done_at timestamptz,
    msisdn text,
    error_code text,
    received_at timestamptz not null,
    due_at timestamptz not null,
    tries smallint not null default 0,
    settled_at timestamptz,
    outcome text check (outcome in ('moved', 'noted', 'repeated', 'late_capture', 'late', 'ambiguous', 'unmatched')),
    -- What the carrier echoed of ours, if it can; believed only where everything else fits.
    echo_message_id uuid,
    echo_attempt_no smallint,
    message_id uuid,
    attempt_no smallint,
    part_no smallint
) partition by range (id);
create index receipts_waiting on tollwire.receipts (carrier_id, reference) where settled_at is null;
-- Each dlr process asks every second what is due: of all that wait, which may be days of another system's receipts, it reads that alone.
create index receipts_due on tollwire.receipts (due_at) where settled_at is null;

create table tollwire.callbacks (
    id uuid not null primary key,
    message_id uuid not null,
    client_id bigint not null,
    endpoint_id bigint not null,
    event_type text not null,
    sequence smallint not null,
    attempts smallint not null default 0,
    due_at timestamptz not null,
    created_at timestamptz not null,
    done_at timestamptz,
    outcome text check (outcome in ('delivered', 'gave_up', 'superseded', 'discarded')),
    status smallint,
    duration_ms integer,
    check ((done_at is null) = (outcome is null))
) partition by range (id);
create index callbacks_waiting on tollwire.callbacks (endpoint_id, due_at) where done_at is null;
create index callbacks_client on tollwire.callbacks (client_id, id);
-- The log of what failed; the last try stands on the callback itself.
create table tollwire.callback_attempts (
    callback_id uuid not null,
    attempt_no smallint not null,
    at timestamptz not null,
    status smallint,
    error text,
    duration_ms integer,
    address text,
    answer_head bytea,
    primary key (callback_id, attempt_no)
) partition by range (callback_id);

create table tollwire.dead_letters (
    message_id uuid not null primary key,
    client_id bigint not null,
    reason text not null,
    attempts smallint not null,
    at timestamptz not null
) partition by range (message_id);
-- Those that are not on sms.dlq yet; the ledger process publishes them and takes them off.
create table tollwire.untold_dead_letters (
    message_id uuid primary key
);
create table tollwire.replays (
    replay_of uuid not null,
    number smallint not null check (number > 0),
    message_id uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (replay_of, number)
);

-- Holds that were not due when the expiry walk passed them (RULES 22, 28).
create table tollwire.hold_watch (
    message_id uuid primary key,
    due_at timestamptz not null,
    -- Of what waits for a receipt: the carrier and the submit, so that a shorter wait of the carrier's is heard by what is watched already.
    carrier_id smallint,
    submitted_at timestamptz
);
create index hold_watch_due on tollwire.hold_watch (due_at);
create index hold_watch_submitted on tollwire.hold_watch (carrier_id, submitted_at);
create table tollwire.watermarks (
    name text primary key,
    position text not null,
    at timestamptz not null default clock_timestamp()
);

grant select on all tables in schema tollwire to tollwire_readonly, tollwire_ledger;
grant select on all tables in schema tollwire to tollwire_api;
revoke select on tollwire.message_texts, tollwire.carriers, tollwire.callback_secrets from tollwire_readonly;
grant select (id, name, kind, enabled, is_simulator, idempotent_submit, can_query, rate_per_second, window_max) on tollwire.carriers to tollwire_readonly;
grant insert, update on tollwire.clients, tollwire.api_keys, tollwire.rates, tollwire.carriers, tollwire.callback_endpoints, tollwire.callback_health to tollwire_api;
grant insert, update, delete on tollwire.routes, tollwire.callback_secrets to tollwire_api;
grant insert, update on tollwire.api_key_uses to tollwire_api;
grant insert on tollwire.audit_trail to tollwire_api, tollwire_ledger;
grant select on tollwire.config_version, tollwire.clients, tollwire.carriers, tollwire.routes to tollwire_worker, tollwire_dlr;
grant select on tollwire.messages, tollwire.message_states to tollwire_dlr;
grant select on tollwire.callback_endpoints, tollwire.callback_secrets, tollwire.callback_health to tollwire_dlr;
grant insert, update on tollwire.callback_health to tollwire_dlr;
