-- Bytes that are not weights: tokenizers.
create table pageformer.asset (
    hash bytea primary key check (hash = pg_catalog.sha256(data)),
    kind text not null,
    data bytea not null
);

create table pageformer.model (
    id integer generated always as identity primary key,
    name text not null unique check (name ~ '^[^@[:space:]]+$'),
    deployed_id integer,
    compute text not null default 'float32' check (compute in ('float32', 'bfloat16', 'auto'))
);

-- One version is immutable; its hash covers config, tokenizer and every block hash.
create table pageformer.version (
    id integer generated always as identity primary key,
    model_id integer not null references pageformer.model on delete cascade,
    label text not null check (label ~ '^[^@[:space:]]+$'),
    hash bytea not null check (pg_catalog.octet_length(hash) = 32),
    config text not null,
    tokenizer_hash bytea references pageformer.asset,
    format text not null,
    block_side integer not null check (block_side in (32, 64, 128, 256)),
    parameters bigint not null,
    parameter_bytes bigint not null,
    source text not null,
    loaded_at timestamptz not null default pg_catalog.now(),
    loaded_by name not null default current_user,
    unique (model_id, label),
    unique (model_id, id)
);

-- The deployed version is one of the model's own.
alter table pageformer.model
    add foreign key (id, deployed_id) references pageformer.version (model_id, id)
    deferrable initially deferred;

-- A tensor is a grid of blocks (grid[row][column] names one), or a run of the version's bundle:
-- all 1-D tensors stand one after another in the tensor named 'bundle'.
create table pageformer.tensor (
    version_id integer not null references pageformer.version on delete cascade,
    name text not null,
    shape integer[] not null,
    grid bytea[],
    bundle_offset integer,
    primary key (version_id, name),
    check ((grid is null) <> (bundle_offset is null))
);

-- A block is a tile of fixed shape, named by the sha256 of its format, shape and bytes.
create table pageformer.block (
    hash bytea primary key check (pg_catalog.octet_length(hash) = 32)
);

-- A page is up to 1 MiB of blocks of one shape and format, in slot order, named by its sha256.
create table pageformer.page (
    hash bytea primary key check (hash = pg_catalog.sha256(data)),
    format text not null check (format in ('f32', 'f16', 'bf16')),
    block_rows integer not null,
    block_cols integer not null,
    data bytea not null
);

-- Compression costs more time than it saves bytes on weights.
alter table pageformer.page alter column data set storage external;

create table pageformer.placement (
    block_hash bytea not null references pageformer.block on delete cascade,
    page_hash bytea not null references pageformer.page,
    slot integer not null check (slot >= 0),
    primary key (block_hash, page_hash),
    unique (page_hash, slot)
);

create table pageformer.model_grant (
    model_id integer not null references pageformer.model on delete cascade,
    role_name name not null,
    primary key (model_id, role_name)
);

create table pageformer.setting (
    name text primary key,
    value text not null,
    meaning text not null
);

insert into pageformer.setting (name, value, meaning) values
    ('backend', 'auto', 'where arrays are computed: auto (cpu where the package was compiled, else numpy), cpu, numpy or gpu'),
    ('cache_folder', '/dev/shm', 'folder that holds the page cache folder');
