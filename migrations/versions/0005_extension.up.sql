-- pg_dump copies the rows of an extension's tables in the order of their foreign keys, and finds none
-- in a circle. That a model deploys a version of its own is held by triggers: udfs/sql/triggers.sql.
alter table pageformer.model drop constraint model_id_deployed_id_fkey;
