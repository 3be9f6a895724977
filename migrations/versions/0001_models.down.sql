drop schema pageformer_op cascade;
