alter table pageformer.model
    add foreign key (id, deployed_id) references pageformer.version (model_id, id)
    deferrable initially deferred;
