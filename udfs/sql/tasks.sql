-- What an administrator does with tasks: which label a bare name means, and what goes.

-- Tasks by what a user calls them: 'legal' is every label of it, 'legal@v1' one, over the version
-- that 'minilm' or 'minilm@v2' names.
create or replace function pageformer.find_tasks(model text, task text)
returns setof pageformer.task
language plpgsql stable parallel safe rows 1
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    owner pageformer.model := find_model(split_part(model, '@', 1));
    base pageformer.version;
    names text;
begin
    select v.* into base from pageformer.version v where v.id = owner.deployed_id;
    if position('@' in model) > 0 then
        base := find_version(owner.name, split_part(model, '@', 2));
    end if;
    return query
        select t.* from pageformer.task t
        where t.version_id = base.id and t.name = split_part(task, '@', 1)
            and (position('@' in task) = 0 or t.label = split_part(task, '@', 2))
        order by t.id;
    if not found then
        select string_agg(t.name || '@' || t.label, ', ' order by t.name, t.id) into names
        from pageformer.task t where t.version_id = base.id;
        raise exception using
            errcode = 'undefined_object',
            message = format('%s@%s has no task "%s"', owner.name, base.label, task),
            hint = coalesce('its tasks: ' || names, 'it has no task yet: pageformer task add');
    end if;
end
$$;

create or replace function pageformer.deploy_task(model text, task text, version text)
returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    target pageformer.task;
begin
    perform lock_blocks();
    select t.* into strict target from find_tasks(model, split_part(task, '@', 1) || '@' || version) t;
    update pageformer.task t set deployed = false
    where t.version_id = target.version_id and t.name = target.name and t.deployed;
    update pageformer.task t set deployed = true where t.id = target.id;
end
$$;

-- An array goes when no task has it, a page when its last array goes. Whoever computes with them
-- meanwhile reads them in the snapshot of its statement.
create or replace function pageformer.drop_task(model text, task text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    dropped integer[];
    kept text;
    arrays bytea[];
    pages bytea[];
begin
    perform lock_blocks();
    dropped := array(select t.id from find_tasks(model, task) t);
    select string_agg(o.label, ', ' order by o.id) into kept
    from pageformer.task t
    join pageformer.task o on o.version_id = t.version_id and o.name = t.name
    where t.id = any(dropped) and t.deployed and o.id <> all(dropped);
    if kept is not null then
        raise exception using
            errcode = 'object_in_use',
            message = format('task "%s" is deployed', task),
            hint = format('deploy another of its versions first (%s): '
                          'select pageformer.deploy_task(%L, %L, %L)',
                          kept, model, split_part(task, '@', 1), split_part(kept, ', ', 1));
    end if;
    arrays := array(select distinct p.array_hash
                    from pageformer.task_part p where p.task_id = any(dropped));
    pages := array(select distinct a.page_hash
                   from pageformer.task_array a where a.hash = any(arrays));
    delete from pageformer.task t where t.id = any(dropped);
    delete from pageformer.task_array a
    where a.hash = any(arrays)
        and not exists (select from pageformer.task_part p where p.array_hash = a.hash);
    delete from pageformer.task_page g
    where g.hash = any(pages)
        and not exists (select from pageformer.task_array a where a.page_hash = g.hash);
end
$$;

-- Edits mean nothing without what they edit.
create or replace function pageformer.refuse_while_edited(version_id integer) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    pin text;
    names text;
begin
    select m.name || '@' || v.label, string_agg(distinct t.name, ', ') into pin, names
    from pageformer.task t
    join pageformer.version v on v.id = t.version_id
    join pageformer.model m on m.id = v.model_id
    where v.id = refuse_while_edited.version_id
    group by m.name, v.label;
    if names is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('tasks edit the version %s: %s', pin, names),
            hint = format('drop each of them first: select pageformer.drop_task(%L, %L)',
                          pin, split_part(names, ', ', 1));
    end if;
end
$$;

revoke execute on function
    pageformer.find_tasks(text, text), pageformer.deploy_task(text, text, text),
    pageformer.drop_task(text, text), pageformer.refuse_while_edited(integer)
    from public;
grant execute on function
    pageformer.find_tasks(text, text), pageformer.deploy_task(text, text, text),
    pageformer.drop_task(text, text), pageformer.refuse_while_edited(integer)
    to pageformer_admin;
