-- The sets of server functions that were installed here, the newest last (docs/adr/0022). A process starts on the set that it knows, and
-- on what came after it.
create table tollwire.installed_functions (
    number integer generated always as identity primary key,
    digest text not null unique,
    at timestamptz not null default clock_timestamp()
);
comment on column tollwire.installed_functions.digest is 'SHA-256 of all function files of a version';
grant select on tollwire.installed_functions to tollwire_api, tollwire_worker, tollwire_dlr, tollwire_ledger, tollwire_readonly;
