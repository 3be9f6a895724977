-- What constraints would do, if pg_dump could restore an extension's rows through them: it makes the
-- tables with all their constraints first, then copies the rows, table by table.

-- The deployed version is one of the model's own. Rows of models come before those of versions, so it
-- is a change that is checked, and no copy.
create or replace function pageformer.check_deployed() returns trigger
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
begin
    perform from pageformer.version v
    where v.id = new.deployed_id and v.model_id = new.id
    for key share;
    if not found then
        raise exception using
            errcode = 'foreign_key_violation',
            message = format('model "%s" has no version of id %s', new.name, new.deployed_id),
            hint = 'select pageformer.deploy(model, version)';
    end if;
    return null;
end
$$;

create or replace trigger check_deployed after update of id, deployed_id on pageformer.model
    for each row when (new.deployed_id is not null)
    execute function pageformer.check_deployed();

create or replace function pageformer.keep_deployed() returns trigger
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
begin
    if exists (select from pageformer.model m where m.deployed_id = old.id) then
        raise exception using
            errcode = 'foreign_key_violation',
            message = format('version "%s" is deployed', old.label),
            hint = 'select pageformer.drop_version(model, version)';
    end if;
    return null;
end
$$;

create or replace trigger keep_deployed after delete on pageformer.version
    for each row execute function pageformer.keep_deployed();

-- A setting that a dump brings takes the place of the one that the install has made.
create or replace function pageformer.replace_setting() returns trigger
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
begin
    delete from pageformer.setting s where s.name = new.name;
    return new;
end
$$;

create or replace trigger replace_setting before insert on pageformer.setting
    for each row execute function pageformer.replace_setting();

revoke execute on function
    pageformer.check_deployed(),
    pageformer.keep_deployed(),
    pageformer.replace_setting()
    from public;
