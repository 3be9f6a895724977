update pageformer.model set compute = 'bfloat16' where compute = 'int8';

alter table pageformer.model
    drop constraint model_compute_check,
    add constraint model_compute_check check (compute in ('float32', 'bfloat16', 'auto'));
