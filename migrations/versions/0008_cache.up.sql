insert into pageformer.setting (name, value, meaning) values
    ('cache_limit', 'none', 'bytes of pages in the page cache, as 512MB or 4GB; none: as many as its folder takes'),
    ('cache_policy', 'sharing', 'which pages go first at the limit: lru, mru, or sharing, by what reloading them for all versions would cost');
