-- Roles and schemas, before the first migration (RULES 6). Idempotent; needs CREATEROLE the first time.
-- The owner cannot log in; every process has a role of its own that may only do its own work.
do $$
declare
    r text;
begin
    -- Roles belong to the whole server: two databases may be prepared at once.
    perform pg_advisory_xact_lock(hashtextextended('tollwire roles', 0));
    if not exists (select from pg_roles where rolname = 'tollwire_owner') then
        create role tollwire_owner nologin;
    end if;
    foreach r in array array['tollwire_migrate', 'tollwire_api', 'tollwire_worker', 'tollwire_dlr', 'tollwire_ledger', 'tollwire_readonly'] loop
        if not exists (select from pg_roles where rolname = r) then
            execute format('create role %I login', r);
            execute format('alter role %I set statement_timeout = %L', r, case r when 'tollwire_migrate' then '0' when 'tollwire_readonly' then '60s' else '5s' end);
            execute format('alter role %I set transaction_timeout = %L', r, case r when 'tollwire_migrate' then '0' when 'tollwire_readonly' then '60s' else '5s' end);
            execute format('alter role %I set lock_timeout = %L', r, '2s');
            execute format('alter role %I set idle_in_transaction_session_timeout = %L', r, '5s');
            execute format('alter role %I set timezone = %L', r, 'UTC');
        end if;
    end loop;
    if not pg_has_role('tollwire_migrate', 'tollwire_owner', 'set') then
        grant tollwire_owner to tollwire_migrate;
    end if;
    -- A role that may create roles gets ADMIN over what it made, but not SET (PostgreSQL 16).
    if not pg_has_role(current_user, 'tollwire_owner', 'set') then
        execute format('grant tollwire_owner to %I', current_user);
    end if;
    execute format('grant create on database %I to tollwire_owner', current_database());
    execute format('revoke temporary on database %I from public', current_database());
end $$;

create schema if not exists ledger authorization tollwire_owner;
create schema if not exists tollwire authorization tollwire_owner;
grant usage on schema ledger, tollwire to tollwire_api, tollwire_worker, tollwire_dlr, tollwire_ledger, tollwire_readonly;
