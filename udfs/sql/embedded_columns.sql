-- Which version made the vectors of a column, and which rows wait for one.

-- The primary key of a table, in order.
create or replace function pageformer.key_columns(relation regclass) returns name[]
language sql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select array_agg(a.attname order by k.place)
    from pg_index i
    cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = relation and i.indisprimary
$$;

-- What `embed` writes as a row's key. `format` asks a type's output function, which only a superuser
-- makes, and no cast, which anybody might have made to run with our rights.
create or replace function pageformer.key_expression(relation regclass, row_name text) returns text
language sql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select 'array[' || string_agg(format('pg_catalog.format(''%%s'', %s.%I)', row_name, k.name), ', '
                                  order by k.place) || ']'
    from unnest(key_columns(relation)) with ordinality k (name, place)
$$;

-- Reads the table as whoever asks. Output is written as in `embed` and in the trigger, since keys
-- are compared as text.
create or replace function pageformer.count_embedded(column_id integer)
returns table (texts bigint, missing bigint, stale bigint, versions text)
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
    counted pageformer.embedded_column;
    deployed bytea;
begin
    select c.* into counted from embedded_column c where c.id = column_id;
    select v.hash into deployed
    from model m join version v on v.id = m.deployed_id where m.id = counted.model_id;
    return query execute format(
        $query$
        select count(*), count(*) filter (where t.%1$I is null),
            count(*) filter (where t.%1$I is not null and r.version_hash is distinct from $2),
            (select string_agg(distinct coalesce(v.label, left(encode(made.hash, 'hex'), 12)), ', ')
             from unnest(array_agg(distinct r.version_hash) filter (where t.%1$I is not null))
                made (hash)
             left join pageformer.version v on v.hash = made.hash and v.model_id = $3
             where made.hash is not null)
        from %2$s t
        left join pageformer.embedded_row r on r.column_id = $1 and r.key = %3$s
        where t.%4$I is not null
        $query$,
        counted.output, counted.relation, key_expression(counted.relation, 't'), counted.input)
    using column_id, deployed, counted.model_id;
end
$$;

create or replace view pageformer.embedded_columns with (security_barrier) as
select
    c.relation::text as "table",
    c.input,
    c.output,
    m.name as model,
    v.label as deployed_version,
    n.versions as made_by,
    n.texts,
    n.missing,
    n.stale,
    exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = c.relation
            and t.tgname = pg_catalog.left('pageformer_follow_' || c.output, 63)
    ) as followed
from pageformer.embedded_column c
join pageformer.model m on m.id = c.model_id
join pageformer.version v on v.id = m.deployed_id
join pg_catalog.pg_attribute i on i.attrelid = c.relation and i.attname = c.input
join pg_catalog.pg_attribute o on o.attrelid = c.relation and o.attname = c.output
cross join lateral pageformer.count_embedded(c.id) n
where pg_catalog.has_table_privilege(c.relation, 'select');

-- For the trigger of `embed --follow`: a row whose text or key changed, or that went, is no longer
-- known. It runs as the owner, so it forgets rows of its own table only.
create or replace function pageformer.forget_embedding() returns trigger
language plpgsql volatile security definer parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
    followed pageformer.embedded_column;
    changed text[];
begin
    select c.* into followed
    from embedded_column c
    where c.output = tg_argv[0]
        and (c.relation = tg_relid or c.relation in (select relid from pg_partition_ancestors(tg_relid)));
    if found then
        execute 'select ' || key_expression(followed.relation, '($1)') into changed using old;
        delete from embedded_row r where r.column_id = followed.id and r.key = changed;
    end if;
    return null;
end
$$;

-- Whether a vector encoded by a model now may be compared with those of a column ('doc.embedding'):
-- every one of them was made by the same version. The caller's search_path finds the table.
create or replace function pageformer.same_space("column" text, model text) returns boolean
language plpgsql stable parallel unsafe
as $$
declare
    parts text[] := pg_catalog.parse_ident("column");
    place text[] := parts[1 : pg_catalog.cardinality(parts) - 1];
    known pageformer.embedded_column;
    wanted bytea;
begin
    select c.* into known
    from pageformer.embedded_column c
    where c.output operator(pg_catalog.=) parts[pg_catalog.cardinality(parts)]
        and c.relation operator(pg_catalog.=) pg_catalog.to_regclass(
            (select pg_catalog.string_agg(pg_catalog.quote_ident(p), '.') from pg_catalog.unnest(place) p));
    if not found then
        raise exception using
            errcode = 'undefined_column',
            message = pg_catalog.format('nothing is known of how %s was made', "column"),
            hint = 'name it as table.column; see pageformer.embedded_columns';
    end if;
    wanted := pageformer.version_hash(model);
    return not exists (
        select from pageformer.embedded_row r
        where r.column_id operator(pg_catalog.=) known.id
            and (r.version_hash operator(pg_catalog.<) wanted
                 or r.version_hash operator(pg_catalog.>) wanted));
end
$$;

-- The hash of the version that a name means now, pinned or not.
create or replace function pageformer.version_hash(model text) returns bytea
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    pin text := split_part(model, '@', 2);
    hashes bytea[];
begin
    hashes := array(
        select v.hash
        from pageformer.model m
        join pageformer.version v on v.model_id = m.id
        where m.name = split_part(version_hash.model, '@', 1)
            and case
                when strpos(version_hash.model, '@') = 0 then v.id = m.deployed_id
                else v.label = pin
                    or length(pin) >= 6 and starts_with(encode(v.hash, 'hex'), pin) end
        order by v.label = pin desc
        limit 1);
    if cardinality(hashes) = 0 then
        raise exception using
            errcode = 'undefined_object',
            message = format('model "%s" does not exist', model),
            hint = 'see pageformer.model_versions';
    end if;
    return hashes[1];
end
$$;

grant select on pageformer.embedded_columns to public;
