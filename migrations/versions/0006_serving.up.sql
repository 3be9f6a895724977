insert into pageformer.setting (name, value, meaning) values
    ('executor', 'backend', 'who computes: backend, auto (the serving process where it is faster) or serve (always the process)');
