drop function if exists pageformer.serving_place();
