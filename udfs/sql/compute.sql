-- How exactly a model is computed: float32 (the default), bfloat16 (products of bfloat16 with sums in
-- float32; cosines to float32 of 0.9999 and more), int8 (products of bytes, but for attention and its
-- values, which are in bfloat16; cosines of 0.99 and more), or auto: bfloat16 where the processor
-- multiplies it, float32 elsewhere.
create or replace function pageformer.set_compute(model text, compute text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    found_model pageformer.model := find_model(model);
begin
    if compute is null or compute not in ('float32', 'bfloat16', 'int8', 'auto') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('compute is %s', coalesce(quote_literal(compute), 'null')),
            hint = 'it is ''float32'', ''bfloat16'', ''int8'' or ''auto''';
    end if;
    update pageformer.model m set compute = set_compute.compute where m.id = found_model.id;
end
$$;

-- What `auto` became on this machine, for the view `models`.
create or replace function pageformer.computed_here(model text) returns text
language plpython3u stable parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import describe
return describe.computed_here(model)
$python$;

revoke execute on function pageformer.set_compute(text, text) from public;
grant execute on function pageformer.set_compute(text, text) to pageformer_admin;
