-- Without cascade, and not over stored differences: drop the versions that have them first.
alter table pageformer.page
    drop constraint page_format_check,
    add constraint page_format_check check (format in ('f32', 'f16', 'bf16'));
drop table pageformer.deduplication, pageformer.signature;
