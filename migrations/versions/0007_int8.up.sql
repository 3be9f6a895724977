alter table pageformer.model
    drop constraint model_compute_check,
    add constraint model_compute_check check (compute in ('float32', 'bfloat16', 'int8', 'auto'));
