-- Try a version on live data, look, and take it back: other connections never see it.
--     pageformer psql -v model=minilm -v new=v2 -f examples/rollback.sql
set search_path = "$user", public, pageformer;

select encode('a text', :'model') as before \gset

begin;
select deploy(:'model', :'new');
select :'model' || ' is ' || deployed_version || ' in this transaction' as deployed
from models where model = :'model';
select round((:'before'::vector <=> encode('a text', :'model'))::numeric, 3) > 0 as answers_differ;
rollback;

select encode('a text', :'model') = :'before'::vector as as_before;
