-- Without cascade: a user's object that refers to one of these stops the downgrade.
drop table
    pageformer.setting,
    pageformer.model_grant,
    pageformer.placement,
    pageformer.page,
    pageformer.block,
    pageformer.tensor,
    pageformer.version,
    pageformer.model,
    pageformer.asset;
