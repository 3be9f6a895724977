-- name: model
select v.hash, m.compute, (v.config::json ->> 'hidden')::integer as dimension,
    (select coalesce(sum(octet_length(g.data)), 0) from (
        select distinct p.page_hash from pageformer.placement p
        where p.block_hash in (select unnest(t.grid) from pageformer.tensor t
                               where t.version_id = v.id)) used
     join pageformer.page g on g.hash = used.page_hash)::bigint as page_bytes
from pageformer.model m
join pageformer.version v on v.id = m.deployed_id
where m.name = $1::text

-- name: make_texts
create temporary table pageformer_planned (id bigint primary key, body text, embedding vector)

-- name: fill_texts
insert into pg_temp.pageformer_planned (id, body)
select n, ($1::text[])[1 + n % pg_catalog.cardinality($1::text[])]
from pg_catalog.generate_series(1, $2::integer) n

-- name: empty_item
truncate pg_temp.pageformer_item, pg_temp.pageformer_vectors
