-- name: database_exists
select exists (select from pg_catalog.pg_database where datname = $1) as found

-- name: installed
select case when pg_catalog.to_regclass('pageformer.alembic_version') is not null
    then pg_catalog.current_setting('pageformer.installed', true) end as fingerprint

-- name: models
select model, version, case when deployed then 'yes' else '' end as deployed,
    pg_catalog.left(hash, 12) as hash, family, dimension::text as dimension,
    parameters::text as parameters, pg_catalog.to_char(loaded_at, 'YYYY-MM-DD HH24:MI') as loaded
from pageformer.model_versions
order by model, loaded_at, version

-- name: model_names
select model from pageformer.models order by model

-- name: versions
select version, deployed, hash, family, dimension, layers, max_length, parameters,
    pg_catalog.pg_size_pretty(parameter_bytes) as size, format, block_side, source, loaded_at,
    loaded_by
from pageformer.model_versions
where model = $1
order by loaded_at, version

-- name: deploy
select pageformer.deploy($1::text, $2::text)

-- name: drop_version
select pageformer.drop_version($1::text, $2::text)

-- name: verify
select pageformer.verify($1::text) as pages

-- name: server
select pg_catalog.current_setting('server_version') as version,
    pg_catalog.current_setting('server_version_num')::integer / 10000 as major,
    (select rolsuper from pg_catalog.pg_roles where rolname = current_user) as superuser,
    current_user as role, pg_catalog.current_database() as database

-- name: extension
select default_version, installed_version
from pg_catalog.pg_available_extensions
where name = $1

-- name: running_site
select pg_catalog.current_setting('pageformer.site', true) as site

-- name: revision_table
select pg_catalog.to_regclass('pageformer.alembic_version') is not null as found

-- name: revision
select version_num as revision from pageformer.alembic_version

-- name: create_plpython
create extension if not exists plpython3u

-- name: ask_python
do $python$
import importlib, json, sys
answer = {"python": list(sys.version_info[:2]), "missing": {}}
for name in ("numpy", "orjson", "tokenizers", "pageformer.udfs.server"):
    try:
        importlib.import_module(name)
    except Exception as error:
        answer["missing"][name] = f"{type(error).__name__}: {error}"
plpy.execute(plpy.prepare("select pg_catalog.set_config('pageformer.answer', $1, true)", ["text"]),
             [json.dumps(answer)])
$python$ language plpython3u

-- name: answer
select pg_catalog.current_setting('pageformer.answer')::json as answer
