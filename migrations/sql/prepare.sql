-- Runs before the revisions, at every install: who may install, what the server must offer, the
-- schemas, the roles and the extensions. Everything here finds what is there already.
do $$
declare
    wanted record;
    version text := pg_catalog.current_setting('server_version_num')::integer / 10000;
begin
    if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = pg_catalog.format('installing Pageformer needs a superuser, and %I is none',
                                        current_user),
            hint = 'plpython3u is an untrusted language: only a superuser may create functions '
                   'in it. Connect as one, for instance with --dsn "user=postgres".';
    end if;

    for wanted in
        select e.name, e.package
        from (values ('plpython3u', 'postgresql-plpython3-' || version),
                     ('vector', 'postgresql-' || version || '-pgvector')) e (name, package)
        where not exists (select from pg_catalog.pg_extension where extname = e.name)
    loop
        if not exists (select from pg_catalog.pg_available_extensions where name = wanted.name) then
            raise exception using
                errcode = 'feature_not_supported',
                message = pg_catalog.format('this server does not offer the extension %s',
                                            wanted.name),
                hint = pg_catalog.format('Install the package %s on the server, then run this '
                                         'again.', wanted.package);
        end if;
    end loop;
end
$$;

-- Roles are cluster-wide: installs into two databases at once would both create them.
lock table pg_catalog.pg_authid in share row exclusive mode;

create schema if not exists pageformer;
create schema if not exists pageformer_op;

do $$
declare
    missing text;
begin
    for missing in
        select r.name
        from unnest(array['pageformer_owner', 'pageformer_admin', 'pageformer_reader',
                          'pageformer_user']) r (name)
        where not exists (select from pg_catalog.pg_roles where rolname = r.name)
    loop
        execute pg_catalog.format('create role %I nologin', missing);
    end loop;
end
$$;

-- Whoever may load a model has its weights: an admin is a reader, the owner is both.
grant pageformer_reader to pageformer_admin;
grant pageformer_admin to pageformer_owner;

-- An extension that was created here says so in its comment, which pg_dump carries: `uninstall`
-- drops these and no others.
do $$
declare
    missing record;
begin
    for missing in
        select a.name, a.comment, n.nspname as schema
        from pg_catalog.pg_available_extensions a
        join (values ('plpython3u', 'pg_catalog'), ('vector', 'public')) w (name, schema)
            on w.name = a.name
        left join pg_catalog.pg_namespace n on n.nspname = w.schema
        where a.installed_version is null
        order by a.name
    loop
        if missing.schema is null then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = pg_catalog.format('this database has no schema public to hold the '
                                            'extension %s', missing.name),
                hint = 'Create the extension in a schema of your choice, then run this again.';
        end if;
        execute pg_catalog.format('create extension %I schema %I', missing.name, missing.schema);
        execute pg_catalog.format('comment on extension %I is %L', missing.name,
                                  missing.comment || ' (created by Pageformer)');
    end loop;
end
$$;

-- pgvector may live in any schema: the functions that follow name its type without one.
select pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I', n.nspname), true)
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'vector';
