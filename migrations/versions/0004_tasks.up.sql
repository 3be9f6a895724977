-- A task is a set of edits over one version: its config, as canonical JSON, and named arrays. It is
-- immutable; its hash covers both. What its bare name means is the deployed one of its labels.
create table pageformer.task (
    id integer generated always as identity primary key,
    version_id integer not null references pageformer.version,
    name text not null check (name ~ '^[^@[:space:]]+$'),
    label text not null check (label ~ '^[^@[:space:]]+$'),
    deployed boolean not null,
    hash bytea not null check (pg_catalog.octet_length(hash) = 32),
    kind text not null,
    config text not null,
    source text not null,
    loaded_at timestamptz not null default pg_catalog.now(),
    loaded_by name not null default current_user,
    unique (version_id, name, label)
);

create unique index task_deployed on pageformer.task (version_id, name) where deployed;

-- Arrays of tasks, one after another, each at a multiple of 64 bytes; named by its sha256.
create table pageformer.task_page (
    hash bytea primary key check (hash = pg_catalog.sha256(data)),
    data bytea not null
);

-- As for weights: compression costs more time than it saves bytes.
alter table pageformer.task_page alter column data set storage external;

-- An array is named by the sha256 of its format, shape and bytes; tasks that have it share it.
create table pageformer.task_array (
    hash bytea primary key check (pg_catalog.octet_length(hash) = 32),
    format text not null check (format in ('f32', 'f16', 'bf16', 'bits', 'u16', 'u32')),
    shape integer[] not null,
    page_hash bytea not null references pageformer.task_page,
    place integer not null check (place >= 0 and place % 64 = 0),
    bytes integer not null check (bytes > 0)
);

create index task_array_page on pageformer.task_array (page_hash);

create table pageformer.task_part (
    task_id integer not null references pageformer.task on delete cascade,
    name text not null,
    array_hash bytea not null references pageformer.task_array,
    primary key (task_id, name)
);

create index task_part_array on pageformer.task_part (array_hash);
