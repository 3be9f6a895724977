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
