-- Images to vectors and labels. Decoding needs Pillow in the server's Python: the extra `images`.

create or replace function pageformer.encode_image(
    image bytea, model text, dimensions integer default null, normalized boolean default null,
    task text default null
) returns vector
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import images
return images.encode_image(image, model, dimensions, normalized, task)
$python$;

create or replace function pageformer.classify_image(
    image bytea, model text, task text default null
) returns table (label text, score real)
language plpython3u stable parallel unsafe cost 1000000 rows 3
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import images
return images.classify_image(image, model, task)
$python$;
