-- A page of differences: see udfs/delta.py for its bytes.
alter table pageformer.page
    drop constraint page_format_check,
    add constraint page_format_check check (format in ('f32', 'f16', 'bf16', 'delta'));

-- Where the blocks of a page lie among all others, by locality-sensitive hashing: blocks that are
-- alike likely have a band in common. 32-bit bands, little endian, of each slot in turn (dedup/lsh.py).
-- Made when a load first looks for blocks that are alike.
create table pageformer.signature (
    page_hash bytea primary key references pageformer.page on delete cascade,
    bands bytea not null
);

-- How a version was made smaller than its files, and what that did to it: the loss, measured on
-- texts that only checked the choice, with the interval that holds it in 95 of 100 cases.
create table pageformer.deduplication (
    version_id integer primary key references pageformer.version on delete cascade,
    rung text not null check (rung in ('approximate', 'delta')),
    original_hash bytea not null check (pg_catalog.octet_length(original_hash) = 32),
    measure text not null check (measure in ('accuracy', 'spearman', 'cosine')),
    max_drop double precision not null check (max_drop >= 0),
    inputs integer not null,
    score_before double precision not null,
    score_after double precision not null,
    dropped double precision not null,
    dropped_low double precision not null,
    dropped_high double precision not null,
    blocks_equal integer not null,
    blocks_replaced integer not null,
    blocks_delta integer not null,
    blocks_kept integer not null,
    seconds double precision not null,
    check (dropped <= max_drop)
);
