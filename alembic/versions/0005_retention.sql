-- What the ledger process may do for the upkeep. It reads the tables to archive them; every change goes through a function (RULES 6).
grant select on tollwire.day_inspections, tollwire.archived_days, tollwire.retired_days, tollwire.text_walks to tollwire_ledger, tollwire_readonly, tollwire_api;
