-- A column of vectors that `pageformer embed` keeps: made from which column, by which model.
create table pageformer.embedded_column (
    id integer generated always as identity primary key,
    relation regclass not null,
    input name not null,
    output name not null,
    model_id integer not null references pageformer.model on delete cascade,
    unique (relation, output)
);

-- The version that made a row's vector, by its hash, which outlives the version. The key is the row's
-- primary key as text. A row that is not here is stale.
create table pageformer.embedded_row (
    column_id integer not null references pageformer.embedded_column on delete cascade,
    key text[] not null,
    version_hash bytea not null check (pg_catalog.octet_length(version_hash) = 32),
    primary key (column_id, key)
);

create index embedded_row_version on pageformer.embedded_row (column_id, version_hash);

-- Whoever may read a table sees how its columns were made; whoever may write to it makes them.
alter table pageformer.embedded_column enable row level security;
alter table pageformer.embedded_row enable row level security;

create policy readers on pageformer.embedded_column for select
    using (pg_catalog.has_any_column_privilege(relation, 'select')
           or pg_catalog.pg_has_role(pg_catalog.to_regrole('pageformer_admin'), 'usage'));
create policy writers on pageformer.embedded_column
    using (pg_catalog.has_any_column_privilege(relation, 'update'));
create policy readers on pageformer.embedded_row for select
    using (column_id in (select id from pageformer.embedded_column));
create policy writers on pageformer.embedded_row
    using (column_id in (
        select id from pageformer.embedded_column
        where pg_catalog.has_any_column_privilege(relation, 'update')));
