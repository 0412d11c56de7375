alter table tollwire.api_key_uses add column seal bytea;
comment on column tollwire.api_key_uses.seal is 'A keyed hash of the verified key, by the keyring; worth nothing without it';
