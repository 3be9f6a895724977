select (
    (select sum(octet_length(data)) from pageformer.page)
    + (select sum(pg_column_size(p)) from pageformer.placement p)
    + (select sum(pg_column_size(b)) from pageformer.block b)
    + (select sum(pg_column_size(t)) from pageformer.tensor t)
) / (select parameter_bytes from pageformer.version)
