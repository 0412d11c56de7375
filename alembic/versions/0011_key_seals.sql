alter table tollwire.api_key_uses add column seal bytea;
comment on column tollwire.api_key_uses.seal is 'A keyed hash of the verified key, by the keyring; worth nothing without it';
-- Whoever looks at tables for people needs no hash of a key.
revoke select on tollwire.api_keys, tollwire.api_key_uses from tollwire_readonly;
grant select (key_id, client_id, name, is_test, scopes, allowed_ips, expires_at, revoked_at, created_at) on tollwire.api_keys to tollwire_readonly;
grant select (key_id, last_used_at) on tollwire.api_key_uses to tollwire_readonly;
