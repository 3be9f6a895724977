-- name: find_task
select t.id, t.label, t.hash, t.deployed
from pageformer.task t
where t.version_id = $1 and t.name = $2
order by t.id

-- name: undeploy
update pageformer.task set deployed = false where version_id = $1 and name = $2 and deployed

-- name: set_deployed
update pageformer.task set deployed = true where id = $1

-- name: insert_task
insert into pageformer.task (version_id, name, label, deployed, hash, kind, config, source)
values ($1, $2, $3, $4, $5, $6, $7, $8)
returning id

-- name: stored_arrays
select hash from pageformer.task_array where hash = any($1::bytea[])

-- name: insert_page
insert into pageformer.task_page (hash, data) values ($1, $2) on conflict (hash) do nothing

-- name: insert_array
insert into pageformer.task_array (hash, format, shape, page_hash, place, bytes)
values ($1, $2, $3, $4, $5, $6)

-- name: insert_part
insert into pageformer.task_part (task_id, name, array_hash) values ($1, $2, $3)

-- name: find_version
select v.id, m.name as model, v.label, v.hash, v.config, v.block_side, v.source, d.original_hash
from pageformer.model m
join pageformer.version v on v.model_id = m.id
left join pageformer.deduplication d on d.version_id = v.id
where m.name = $1::text
    and case when $2::text = '' then v.id = m.deployed_id
        else v.label = $2::text
            or pg_catalog.length($2::text) >= 6
                and pg_catalog.starts_with(pg_catalog.encode(v.hash, 'hex'), $2::text)
        end

-- name: version_names
select m.name || '@' || v.label as name
from pageformer.version v
join pageformer.model m on m.id = v.model_id
order by m.name, v.id
