-- name: versions
select m.name as model, v.label, v.id = m.deployed_id as deployed, (
    select count(*) from (
        select pg_catalog.unnest(t.grid) from pageformer.tensor t where t.version_id = v.id
        except
        select p.block_hash
        from pageformer.placement p
        join pageformer.page g on g.hash = p.page_hash
    ) late) as late,
    exists (select from pageformer.tensor t where t.version_id = v.id)
        and (v.tokenizer_hash is null
            or exists (select from pageformer.asset a where a.hash = v.tokenizer_hash)) as whole
from pageformer.model m
join pageformer.version v on v.model_id = m.id
order by m.name, v.id

-- name: standing
with own as (
    select s.oid
    from pg_catalog.pg_subscription s
    join pg_catalog.pg_database d on d.oid = s.subdbid
    where d.datname = pg_catalog.current_database()
)
select pg_catalog.pg_is_in_recovery() as standby,
    case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
        else pg_catalog.pg_current_wal_lsn() end::text as position,
    case when pg_catalog.pg_is_in_recovery() then extract(epoch from
        pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) end::float8
        as since,
    exists (select from own) as subscriber,
    (select max(s.latest_end_lsn)::text from pg_catalog.pg_stat_subscription s
     where s.subid in (select o.oid from own o)) as received,
    (select count(*) from pg_catalog.pg_subscription_rel r where r.srsubstate <> 'r') as copying

-- name: behind
select pg_catalog.pg_wal_lsn_diff($1::pg_lsn, $2::pg_lsn)::bigint as bytes
