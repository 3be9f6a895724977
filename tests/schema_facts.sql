-- What an install makes, one fact per line, worded the same on every PostgreSQL: no oids, no texts
-- that servers deparse differently, no privileges of the owner.
with ours as (
    select oid, nspname::text as name
    from pg_namespace where nspname in ('pageformer', 'pageformer_op')
),
roles (oid, name) as (
    select oid, rolname::text from pg_roles union all select 0, 'public'
),
acl (object, subobject, owner, items) as (
    select oid, 0, nspowner, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace
    union all
    select oid, 0, relowner, coalesce(relacl, acldefault('r', relowner))
    from pg_class where relkind in ('r', 'v')
    union all
    select c.oid, a.attnum, c.relowner, a.attacl
    from pg_class c join pg_attribute a on a.attrelid = c.oid
    union all
    select oid, 0, proowner, coalesce(proacl, acldefault('f', proowner)) from pg_proc
),
grants as (
    select a.object, a.subobject, format('    %s may %s', r.name,
        string_agg(lower(e.privilege_type), ', ' order by e.privilege_type)) as fact
    from acl a cross join lateral aclexplode(a.items) e join roles r on r.oid = e.grantee
    where e.grantee <> a.owner
    group by a.object, a.subobject, r.name
),
facts (part, object, place, fact) as (
    select 1, r.rolname::text, 0, format('role %s%s', r.rolname,
        (select ': member of ' || string_agg(g.rolname, ', ' order by g.rolname)
         from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid))
    from pg_roles r where r.rolname like 'pageformer%'
    union all
    select 2, n.name, 0, format('schema %s of %s', n.name, pg_get_userbyid(s.nspowner))
    from ours n join pg_namespace s using (oid)
    union all
    select 2, n.name, 1, g.fact from ours n join grants g on g.object = n.oid

    union all
    select 3, c.oid::regclass::text, 0, format('%s %s of %s%s',
        case c.relkind when 'r' then 'table' else 'view' end, c.oid::regclass,
        pg_get_userbyid(c.relowner), ' with ' || array_to_string(c.reloptions, ', '))
    from pg_class c join ours n on n.oid = c.relnamespace where c.relkind in ('r', 'v')
    union all
    select 3, c.oid::regclass::text, a.attnum, format('    %s %s%s%s%s%s', a.attname,
        format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then ' not null' end,
        ' default ' || pg_get_expr(d.adbin, d.adrelid),
        case a.attidentity when 'a' then ' identity' end,
        case when a.attstorage <> t.typstorage then ' storage ' || a.attstorage::text end)
    from pg_class c
    join ours n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relkind in ('r', 'v')
    union all
    select 3, c.oid::regclass::text, 1000, format('    %s', pg_get_constraintdef(k.oid))
    from pg_class c join ours n on n.oid = c.relnamespace join pg_constraint k on k.conrelid = c.oid
    where k.contype <> 'n'
    union all
    select 3, c.oid::regclass::text, 1001 + sign(g.subobject)::integer,
        g.fact || case when g.subobject > 0 then format(' (%s)', a.attname) else '' end
    from pg_class c
    join ours n on n.oid = c.relnamespace
    join grants g on g.object = c.oid
    left join pg_attribute a on a.attrelid = c.oid and a.attnum = g.subobject and g.subobject > 0

    union all
    select 3, c.oid::regclass::text, 999, format('    row security: %s for %s', r.polname,
        case r.polcmd when 'r' then 'select' else 'all' end)
    from pg_class c join ours n on n.oid = c.relnamespace join pg_policy r on r.polrelid = c.oid
    where c.relrowsecurity

    union all
    select 3, c.oid::regclass::text, 998, format('    trigger %s calls %s', t.tgname, t.tgfoid::regproc)
    from pg_class c join ours n on n.oid = c.relnamespace join pg_trigger t on t.tgrelid = c.oid
    where not t.tgisinternal

    union all
    select 4, p.oid::regprocedure::text, 0, format('%s %s.%s(%s) returns %s of %s',
        case p.prokind when 'a' then 'aggregate' else 'function' end, n.name, p.proname,
        pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
        pg_get_userbyid(p.proowner))
    from pg_proc p join ours n on n.oid = p.pronamespace
    union all
    select 4, p.oid::regprocedure::text, 1, format('    %s %s parallel %s%s%s cost %s',
        l.lanname,
        case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
        case p.proparallel when 'u' then 'unsafe' when 's' then 'safe' else 'restricted' end,
        case when p.proisstrict then ' strict' end,
        case when p.prosecdef then ' security definer' end,
        p.procost)
    from pg_proc p join ours n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
    union all
    select 4, p.oid::regprocedure::text, 2, '    set ' || array_to_string(p.proconfig, '; ')
    from pg_proc p join ours n on n.oid = p.pronamespace where p.proconfig is not null
    union all
    select 4, p.oid::regprocedure::text, 3, g.fact
    from pg_proc p join ours n on n.oid = p.pronamespace join grants g on g.object = p.oid
)
select fact from facts order by part, object collate "C", place, fact collate "C"
