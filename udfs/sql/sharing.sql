-- What versions share, and what sharing has cost them.

grant select on pageformer.signature, pageformer.deduplication to pageformer_reader;
grant insert, update, delete on pageformer.signature, pageformer.deduplication
    to pageformer_admin;
