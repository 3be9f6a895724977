select (
    (select coalesce(sum(octet_length(data)), 0) from pageformer.page)
    + (select coalesce(sum(pg_column_size(p)), 0) from pageformer.placement p)
    + (select coalesce(sum(pg_column_size(b)), 0) from pageformer.block b)
    + (select coalesce(sum(pg_column_size(t)), 0) from pageformer.tensor t)
    + (select coalesce(sum(pg_column_size(v)), 0) from pageformer.version v)
    + (select coalesce(sum(pg_column_size(d)), 0) from pageformer.deduplication d)
)::bigint
