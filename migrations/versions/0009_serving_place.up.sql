do $$
begin
    if pg_catalog.to_regprocedure('pageformer.serving_place()') is not null then
        drop function pageformer.serving_place();
    end if;
end
$$;
