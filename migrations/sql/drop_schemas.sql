-- What is left after a downgrade to base. Without cascade, like everything before it.
drop table pageformer.alembic_version;
drop schema pageformer, pageformer_op;
