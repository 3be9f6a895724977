-- What a version takes: its pages, and the maps that say which blocks its tensors are and where they lie.
with own as (
    select v.id from pageformer.version v join pageformer.model m on m.deployed_id = v.id
    where m.name = 'encoder'
), named as (
    select distinct unnest(t.grid) as hash from pageformer.tensor t, own where t.version_id = own.id
), placed as (
    select p as map, p.page_hash from pageformer.placement p join named n on n.hash = p.block_hash
)
select (
    (select sum(octet_length(g.data)) from pageformer.page g
     where g.hash in (select page_hash from placed))
    + (select sum(pg_column_size(map)) from placed)
    + (select sum(pg_column_size(t)) from pageformer.tensor t, own where t.version_id = own.id)
)::bigint
