select sum(pg_total_relation_size(c.oid)) / (select parameter_bytes from pageformer.version)
from pg_class c
where c.relnamespace = 'pageformer'::regnamespace and c.relkind = 'r'
