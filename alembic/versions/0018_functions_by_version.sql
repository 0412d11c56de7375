alter table tollwire.installed_functions add column version integer[] not null default '{}';
comment on column tollwire.installed_functions.version is 'The version of Tollwire that installed it last, in numbers: {0,1,0}';
