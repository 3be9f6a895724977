-- name: library_revision
select version_num as revision from pageformer.alembic_version

-- name: library_installed
select pg_catalog.to_regclass('pageformer.alembic_version') is not null as found,
    exists (select from pg_catalog.pg_extension where extname = 'pageformer') as extension

-- name: models
select name as model from pageformer.model order by name

-- name: versions
select m.name as model, v.id, v.label, pg_catalog.encode(v.hash, 'hex') as hash,
    v.id = m.deployed_id as deployed, v.source, (v.config::json ->> 'hidden')::integer as dimension
from pageformer.model m
join pageformer.version v on v.model_id = m.id
order by v.id

-- name: grants
select m.name as model, g.role_name::text as role
from pageformer.model_grant g
join pageformer.model m on m.id = g.model_id
order by m.name, g.role_name

-- name: columns
select m.name as model, c.relation::text as "table", c.output::text as output,
    a.atttypmod as dimension
from pageformer.embedded_column c
join pageformer.model m on m.id = c.model_id
join pg_catalog.pg_attribute a on a.attrelid = c.relation and a.attname = c.output
where a.atttypmod > 0
order by c.relation::text, c.output

-- name: copy_version
insert into pageformer.version
    (model_id, label, hash, config, tokenizer_hash, format, block_side, parameters,
     parameter_bytes, source)
select $1::integer, $2::text, v.hash, v.config, v.tokenizer_hash, v.format, v.block_side,
    v.parameters, v.parameter_bytes, v.source
from pageformer.version v
where v.id = $3::integer
returning id

-- name: copy_tensors
insert into pageformer.tensor (version_id, name, shape, grid, bundle_offset)
select $1::integer, t.name, t.shape, t.grid, t.bundle_offset
from pageformer.tensor t
where t.version_id = $2::integer

-- name: deploy
select pageformer.deploy($1::text, $2::text)

-- name: drop_version
select pageformer.drop_version($1::text, $2::text)

-- name: grant
select pageformer.grant_use($1::text, $2::text)

-- name: revoke
select pageformer.revoke_use($1::text, $2::text)

-- name: deploy_task
select pageformer.deploy_task($1::text, $2::text, $3::text)

-- name: drop_task
select pageformer.drop_task($1::text, $2::text)

-- name: task
select pg_catalog.encode(t.hash, 'hex') as hash
from pageformer.task t
join pageformer.version v on v.id = t.version_id
join pageformer.model m on m.id = v.model_id
where m.name = pg_catalog.split_part($1::text, '@', 1)
    and case when pg_catalog.strpos($1::text, '@') > 0
        then v.label = pg_catalog.split_part($1::text, '@', 2) else v.id = m.deployed_id end
    and t.name = $2::text and t.label = $3::text

-- name: resize
alter table {table} alter column {column} type vector({dimension}) using null

-- name: offline_load
-- A model's weights do not fit into a script. Load them before you run it, where the files are:
--     pageformer load {source} --name {model} --version {version}
-- The script stops here unless the database has exactly that content.
do $$
begin
    if not exists (
        select from pageformer.model m
        join pageformer.version v on v.model_id = m.id
        where m.name = {name} and v.label = {label}
            and pg_catalog.encode(v.hash, 'hex') = {sha256}
    ) then
        raise exception 'load the model first: see the comment above this statement in the script';
    end if;
end
$$

-- name: offline_deploy
select pageformer.deploy({model}, {version})

-- name: offline_drop
select pageformer.drop_version({model}, {version})

-- name: offline_grant
select pageformer.grant_use({model}, {role})

-- name: offline_revoke
select pageformer.revoke_use({model}, {role})

-- name: offline_load_task
-- A task's weights do not fit into a script. Add it before you run it, where the files are:
--     pageformer task add {name} --model {model} {arguments} --version {version}
-- The script stops here unless the database has exactly that content.
do $$
begin
    if not exists (
        select from pageformer.find_tasks({base}, {task}) t
        where pg_catalog.encode(t.hash, 'hex') = {sha256}
    ) then
        raise exception 'add the task first: see the comment above this statement in the script';
    end if;
end
$$

-- name: offline_deploy_task
select pageformer.deploy_task({model}, {task}, {version})

-- name: offline_drop_task
select pageformer.drop_task({model}, {task})
