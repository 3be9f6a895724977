-- What an administrator does with models: which version is deployed, what a model is called, what
-- goes, and who may use it. All run with the caller's rights, which pageformer_admin has.

create or replace function pageformer.find_model(name text) returns pageformer.model
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    found_model pageformer.model;
    names text;
begin
    select m.* into found_model from pageformer.model m where m.name = find_model.name;
    if not found then
        select string_agg(m.name, ', ' order by m.name) into names from pageformer.model m;
        raise exception using
            errcode = 'undefined_object',
            message = format('model "%s" does not exist', name),
            hint = coalesce('models that are loaded: ' || names,
                            'no model is loaded yet: pageformer load DIR --name NAME');
    end if;
    return found_model;
end
$$;

-- A version by its label, or by six or more digits of its hash.
create or replace function pageformer.find_version(model text, version text)
returns pageformer.version
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    owner pageformer.model := find_model(model);
    candidates pageformer.version[];
    labels text;
begin
    candidates := array(
        select v from pageformer.version v
        where v.model_id = owner.id
            and (v.label = find_version.version
                 or length(find_version.version) >= 6
                    and starts_with(encode(v.hash, 'hex'), find_version.version))
        order by v.label = find_version.version desc);
    if cardinality(candidates) = 1 or candidates[1].label = version then
        return candidates[1];
    end if;
    select string_agg(v.label, ', ' order by v.id) into labels
    from pageformer.version v where v.model_id = owner.id;
    raise exception using
        errcode = 'undefined_object',
        message = case cardinality(candidates)
            when 0 then format('model "%s" has no version "%s"', model, version)
            else format('version "%s" of model "%s" is ambiguous', version, model) end,
        hint = 'its versions: ' || labels;
end
$$;

-- Indexes, defaults, generated columns and checks that name a version by a pin. Without it they would
-- fail; with another version under its name they would mean something else.
create or replace function pageformer.objects_naming(version_id integer) returns table (object text)
language sql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    with expression (classid, objid, definition) as (
        select 'pg_class'::regclass, i.indexrelid, pg_get_indexdef(i.indexrelid)
        from pg_index i where i.indexprs is not null or i.indpred is not null
        union all
        select 'pg_attrdef'::regclass, d.oid, pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d
        union all
        select 'pg_constraint'::regclass, k.oid, pg_get_constraintdef(k.oid)
        from pg_constraint k where k.contype = 'c'
    )
    select distinct pg_describe_object(e.classid, e.objid, 0)
    from expression e
    cross join lateral regexp_matches(e.definition, '''((?:[^''@\s]|'''')+)@([^''@\s]+)''', 'g') part
    join model m on m.name = replace(part[1], '''''', '''')
    join version v on v.model_id = m.id and v.id = objects_naming.version_id
    where v.label = part[2]
        or length(part[2]) >= 6 and starts_with(encode(v.hash, 'hex'), part[2])
            and not exists (
                select from version other where other.model_id = m.id and other.label = part[2])
    order by 1
$$;

create or replace function pageformer.refuse_while_named(version_id integer) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    pin text;
    objects text;
begin
    select string_agg(n.object, ', ') into objects from objects_naming(version_id) n;
    if objects is not null then
        select m.name || '@' || v.label into pin
        from model m join version v on v.model_id = m.id where v.id = version_id;
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('others name the version %s: %s', pin, objects),
            hint = 'drop or change these first';
    end if;
end
$$;

-- Blocks are shared without foreign keys from their grids, so whoever adds or removes versions works
-- alone, and must see what the one before did: a snapshot from before the lock would not show it.
create or replace function pageformer.lock_blocks() returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = 'invalid_transaction_state',
            message = 'versions cannot be loaded or dropped in a ' ||
                      current_setting('transaction_isolation') || ' transaction',
            hint = 'begin isolation level read committed';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('pageformer.load', 0));
end
$$;

-- Columns that `pageformer embed` keeps follow their model: they must be able to.
create or replace function pageformer.set_deployed(model_id integer, version_id integer) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    name text;
    label text;
    dimension integer;
    others text;
begin
    select m.name, v.label, (v.config::json ->> 'hidden')::integer into name, label, dimension
    from pageformer.model m join pageformer.version v on v.model_id = m.id
    where m.id = set_deployed.model_id and v.id = set_deployed.version_id;
    select string_agg(format('%s.%I vector(%s)', c.relation, c.output, a.atttypmod),
                      ', ' order by c.relation::text, c.output) into others
    from pageformer.embedded_column c
    join pg_attribute a on a.attrelid = c.relation and a.attname = c.output
    where c.model_id = set_deployed.model_id and a.atttypmod > 0 and a.atttypmod <> dimension;
    if others is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s@%s makes vectors of %s dimensions; columns that follow %s: %s',
                             name, label, dimension, name, others),
            hint = format('alter table … alter column … type vector(%s) using null, for each; then '
                          'deploy, and run: pageformer embed --stale', dimension);
    end if;
    update pageformer.model m set deployed_id = version_id where m.id = set_deployed.model_id;
end
$$;

create or replace function pageformer.deploy(model text, version text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    target pageformer.version := find_version(model, version);
begin
    -- Waits for a drop of the same version, which then has the last word.
    perform from pageformer.version v where v.id = target.id for key share;
    if not found then
        target := find_version(model, version);
    end if;
    perform set_deployed(target.model_id, target.id);
end
$$;

create or replace function pageformer.rename_model(model text, new_name text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    renamed pageformer.model := find_model(model);
begin
    perform refuse_while_named(v.id) from pageformer.version v where v.model_id = renamed.id;
    update pageformer.model m set name = new_name where m.id = renamed.id;
exception
    when unique_violation then
        raise exception using
            errcode = 'duplicate_object',
            message = format('model "%s" exists already', new_name),
            hint = 'choose another name, or rename that one first';
    when check_violation or not_null_violation then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%L cannot be the name of a model', new_name),
            hint = 'a name has no spaces and no @';
end
$$;

-- The bases of a page of differences stand in its header (see udfs/delta.py).
create or replace function pageformer.delta_bases(data bytea) returns setof bytea
language sql immutable parallel safe rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select substring(data from 17 + 32 * i for 32)
    from (select substring(data from 7 for 2)) head (count)
    cross join lateral generate_series(
        0, get_byte(head.count, 0) + 256 * get_byte(head.count, 1) - 1) i
$$;

-- Columns that follow a model stay when it goes, with their vectors; what made these is forgotten.
create or replace function pageformer.tell_of_followers(model_id integer) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    followers text;
begin
    select string_agg(format('%s.%I', c.relation, c.output), ', ' order by c.relation::text, c.output)
    into followers
    from pageformer.embedded_column c where c.model_id = tell_of_followers.model_id;
    if followers is not null then
        raise warning using
            message = format('the model goes, and with it what is known of %s', followers),
            hint = 'the vectors stay; with a model there again: pageformer embed --table … --model …';
    end if;
end
$$;

-- The last version takes the model with it. A block goes when no version has it and no difference is
-- based on it, a page when its last placement goes: what is shared stays.
create or replace function pageformer.drop_version(model text, version text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    dropped pageformer.version;
    deployed integer;
    others text;
    blocks bytea[];
    pages bytea[];
begin
    perform lock_blocks();
    dropped := find_version(model, version);
    select m.deployed_id into deployed
    from pageformer.model m where m.id = dropped.model_id for update;
    select string_agg(v.label, ', ' order by v.id) into others
    from pageformer.version v where v.model_id = dropped.model_id and v.id <> dropped.id;
    if deployed = dropped.id and others is not null then
        raise exception using
            errcode = 'object_in_use',
            message = format('version "%s" of model "%s" is deployed', dropped.label, model),
            hint = format('deploy another one first (%s): select pageformer.deploy(%L, %L)',
                          others, model, split_part(others, ', ', 1));
    end if;
    perform refuse_while_named(dropped.id);
    perform refuse_while_edited(dropped.id);
    perform tell_of_followers(dropped.model_id) where others is null;

    blocks := array(select distinct unnest(t.grid)
                    from pageformer.tensor t where t.version_id = dropped.id);
    blocks := blocks || array(
        select distinct delta_bases(g.data)
        from pageformer.page g
        where g.format = 'delta' and g.hash in (
            select p.page_hash from pageformer.placement p where p.block_hash = any(blocks)));
    pages := array(select distinct p.page_hash
                   from pageformer.placement p where p.block_hash = any(blocks));
    delete from pageformer.version v where v.id = dropped.id and others is not null;
    delete from pageformer.model m where m.id = dropped.model_id and others is null;

    -- Once more for blocks that only differences were based on, which are gone by then.
    for pass in 1..2 loop
        delete from pageformer.block b
        using (
            select unnest(blocks)
            except select unnest(t.grid) from pageformer.tensor t
            except select delta_bases(g.data) from pageformer.page g where g.format = 'delta'
        ) unused (hash)
        where b.hash = unused.hash;
        delete from pageformer.page g
        where g.hash = any(pages)
            and not exists (select from pageformer.placement p where p.page_hash = g.hash);
    end loop;
    delete from pageformer.asset a
    where a.hash = dropped.tokenizer_hash
        and not exists (select from pageformer.version v where v.tokenizer_hash = a.hash);
    if not exists (select from pageformer.version v where v.hash = dropped.hash) then
        perform forget_cached(dropped.hash);
    end if;
end
$$;

-- Roles are kept by name, as a dump carries them: revoke before you drop or rename a role.
create or replace function pageformer.grant_use(model text, role text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    granted pageformer.model := find_model(model);
begin
    if role is null or role <> 'public'
        and not exists (select from pg_catalog.pg_roles r where r.rolname = role) then
        raise exception using
            errcode = 'undefined_object',
            message = format('role %L does not exist', role),
            hint = 'create the role first, or let everybody use the model: ''public''';
    end if;
    insert into pageformer.model_grant (model_id, role_name) values (granted.id, role)
    on conflict do nothing;
end
$$;

create or replace function pageformer.revoke_use(model text, role text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    granted pageformer.model := find_model(model);
    roles text;
begin
    delete from pageformer.model_grant g where g.model_id = granted.id and g.role_name = role;
    if not found then
        select string_agg(g.role_name, ', ' order by g.role_name) into roles
        from pageformer.model_grant g where g.model_id = granted.id;
        raise exception using
            errcode = 'undefined_object',
            message = format('model "%s" is not granted to %L', model, role),
            hint = coalesce('it is granted to: ' || roles, 'it is granted to nobody');
    end if;
end
$$;

revoke execute on function
    pageformer.find_model(text), pageformer.find_version(text, text), pageformer.lock_blocks(),
    pageformer.set_deployed(integer, integer), pageformer.objects_naming(integer),
    pageformer.refuse_while_named(integer),
    pageformer.delta_bases(bytea), pageformer.tell_of_followers(integer),
    pageformer.deploy(text, text), pageformer.rename_model(text, text),
    pageformer.drop_version(text, text), pageformer.grant_use(text, text),
    pageformer.revoke_use(text, text)
    from public;
grant execute on function
    pageformer.find_model(text), pageformer.find_version(text, text), pageformer.lock_blocks(),
    pageformer.set_deployed(integer, integer), pageformer.objects_naming(integer),
    pageformer.refuse_while_named(integer),
    pageformer.delta_bases(bytea), pageformer.tell_of_followers(integer),
    pageformer.deploy(text, text), pageformer.rename_model(text, text),
    pageformer.drop_version(text, text), pageformer.grant_use(text, text),
    pageformer.revoke_use(text, text)
    to pageformer_admin;
