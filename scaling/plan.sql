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
create temporary table pageformer_planned (
    id bigint primary key, body text, embedding vector, digest bytea)

-- name: fill_texts
insert into pg_temp.pageformer_planned (id, body)
select n, repeat('word ', $2::integer) from pg_catalog.generate_series(1, $1::integer) n

-- name: make_staged
create temporary table pageformer_staged on commit delete rows as
select 0::integer as place, embedding as vector from pg_temp.pageformer_planned with no data

-- name: next_item
select id from pg_temp.pageformer_planned
where id > $1::bigint and embedding is null order by id limit $2::integer

-- name: read_item
select body, pg_catalog.sha256(pg_catalog.convert_to(body, 'UTF8'))
from pg_temp.pageformer_planned
where id > $1::bigint and id <= $1::bigint + $2::integer order by id

-- name: stage
copy pg_temp.pageformer_staged (place, vector) from stdin (format binary)

-- name: write_item
update pg_temp.pageformer_planned t
set embedding = s.vector, digest = pg_catalog.sha256(pg_catalog.convert_to(t.body, 'UTF8'))
from pg_temp.pageformer_staged s
where t.id = $1::bigint + s.place
