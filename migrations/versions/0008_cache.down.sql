delete from pageformer.setting where name in ('cache_limit', 'cache_policy');
