-- name: lock
select pageformer.lock_blocks()

-- name: current_role
select pg_catalog.quote_ident(current_user)

-- name: find_model
select id, deployed_id from pageformer.model where name = $1

-- name: versions
select id, label, hash from pageformer.version where model_id = $1 order by id

-- name: stored_among
select hash from pageformer.block where hash = any($1::bytea[])

-- name: insert_asset
insert into pageformer.asset (hash, kind, data)
values (pg_catalog.sha256($2::bytea), $1, $2)
on conflict (hash) do nothing

-- name: insert_model
insert into pageformer.model (name) values ($1) returning id

-- name: insert_version
insert into pageformer.version
    (model_id, label, hash, config, tokenizer_hash, format, block_side, parameters,
     parameter_bytes, source)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
returning id

-- name: deploy
select pageformer.set_deployed($1::integer, $2::integer)

-- name: copy_pages
copy pageformer.page (hash, format, block_rows, block_cols, data) from stdin (format binary)

-- name: copy_blocks
copy pageformer.block (hash) from stdin (format binary)

-- name: copy_placements
copy pageformer.placement (block_hash, page_hash, slot) from stdin (format binary)

-- name: copy_tensors
copy pageformer.tensor (version_id, name, shape, grid, bundle_offset) from stdin (format binary)
