-- Which version of a model finds better? Both answer the same questions on the same live rows, in one
-- statement and so on one snapshot, while everybody else goes on with the version that is deployed.
--     pageformer psql -v model=minilm -v old=v1 -v new=v2 -f examples/compare_versions.sql
set search_path = "$user", public, pageformer;
begin;

create temporary table question (ask text, wanted text) on commit drop;
insert into question values
    ('which function rounds a number down?', 'floor(numeric)'),
    ('make a word start with a capital letter', 'initcap(text)'),
    ('split a text into words at a separator', 'string_to_table(text,text)');

with answer (object, body) as (
    select p.oid::regprocedure::text, pg_catalog.obj_description(p.oid, 'pg_proc')
    from pg_catalog.pg_proc p
    where p.proname in ('floor', 'ceil', 'initcap', 'upper', 'string_to_table', 'length', 'md5')
),
version (label) as (values (:'old'), (:'new')),
ranked as (
    select v.label, q.ask, a.object = q.wanted as found,
        row_number() over (
            partition by v.label, q.ask
            order by encode(a.body, :'model' || '@' || v.label)
                <=> encode(q.ask, :'model' || '@' || v.label)) as place
    from version v cross join question q cross join answer a
)
select label, count(*) as questions,
    pg_catalog.round(pg_catalog.avg(1.0 / place), 3) as mean_reciprocal_rank
from ranked
where found
group by label
order by label = :'old' desc;

commit;
