"""A table of texts, and a note of each time that one's vector is written."""

DOCUMENTS = """
    create table doc (id integer primary key, body text, embedding vector);
    create table written (id integer);
    create function note() returns trigger language plpgsql as
    $$ begin insert into written values (new.id); return null; end $$;
    create trigger note after update of embedding on doc
    for each row execute function note()
"""
