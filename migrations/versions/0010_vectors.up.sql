drop function if exists
    pageformer.encode_text(text, boolean, text, text, text, text, integer, boolean, text),
    pageformer.encode_pinned_text(text, boolean, text);
