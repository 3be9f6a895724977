-- For --force: whatever depends on Pageformer goes with it.
set local client_min_messages = warning;
drop schema pageformer, pageformer_op cascade;
set local client_min_messages = notice;
