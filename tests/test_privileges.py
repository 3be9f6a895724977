"""Who may use a model, who may see its weights, and that no way round leads to either."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models

from pageformer.cluster import Cluster
from pageformer.installed_server import server_account
from pageformer.loader.load import load

# alice has no grant; bob may use the model, and so may whoever inherits from the group.
ROLES = """
create role alice login;
create role bob login;
create role staff nologin;
create role carol login in role staff;
create role dave login noinherit in role staff;
create role reader login in role pageformer_reader;
create role admin login in role pageformer_admin;
grant create on schema public to alice, bob;
select pageformer.grant_use('tiny', 'bob');
select pageformer.grant_use('tiny', 'staff');
"""
NAMES = "alice, bob, staff, carol, dave, reader, admin"
ENCODE = "select pageformer.encode('a text', 'tiny')::text"

USES = {
    "encode": ENCODE,
    "encode_batch": "select pageformer.encode_batch(array['a text'], 'tiny')::text",
    "encode_pinned": "select pageformer.encode_pinned('a text', 'tiny@v1')::text",
    "encode_tokens": "select count(*) from pageformer.encode_tokens('a text', 'tiny')",
    "tokenize": "select count(*) from pageformer.tokenize('a text', 'tiny')",
    "count_tokens": "select pageformer.count_tokens('a text', 'tiny')",
    "classify": "select count(*) from pageformer.classify('a text', 'tiny')",
    "classify_batch": "select count(*) from pageformer.classify_batch('{a text}', 'tiny')",
    "rerank": "select count(*) from pageformer.rerank('a', '{a text}', 'tiny')",
    "chunk": "select count(*) from pageformer.chunk('a text', 'tiny')",
    "encode_chunks": "select count(*) from pageformer.encode_chunks('a text', 'tiny')",
    "describe": "select count(*) from pageformer.describe('tiny')",
    "preload": "select pageformer.preload('tiny')",
    "verify": "select pageformer.verify('tiny')",
}

# Everything that a role without any grant may call.
PUBLIC_FUNCTIONS = {
    "pageformer": {
        "as_owner", "cache_figures", "chunk", "classify", "classify_batch", "classify_image",
        "classify_tokens", "computed_here", "count_embedded", "count_tokens", "describe", "encode",
        "encode_batch", "encode_blocks", "encode_chunks", "encode_each", "encode_image",
        "encode_long", "encode_part", "encode_pinned", "encode_pinned_long",
        "encode_pinned_part", "encode_sparse", "encode_tensor", "encode_tensor_text",
        "encode_tokens", "fill_mask",
        "forget_embedding", "key_columns", "key_expression", "max_sim", "preload", "rerank",
        "same_space", "serving_figures", "to_vector", "tokenize", "verify", "version_hash",
    },
    "pageformer_op": {
        "add", "add_bias", "add_delta", "alibi", "block", "concat", "distance", "exp_sum",
        "from_array", "from_positions", "from_tensor", "gelu", "gelu_tanh", "layer_norm",
        "layer_norm_part", "mask", "matmul", "maximum", "merge_moments", "multiply", "near",
        "normalize_part", "pool", "relative_bias", "relu", "rotate", "row_max", "row_moments",
        "run", "scale", "sigmoid", "silu", "slice", "softmax", "softmax_part", "square_sum",
        "stack", "sum", "tanh", "tile", "to_array", "to_positions", "to_tensor", "transpose",
    },
}  # fmt: skip

Session = psycopg.Connection[Any]
Connect = Callable[[str], Session]


@pytest.fixture(scope="module")
def tiny(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with the model `tiny` and roles of every kind."""
    directory = tiny_models.write("bert-rerank", tmp_path_factory.mktemp("models"))
    with psycopg.connect(module_database, autocommit=True) as session:
        load(session, directory, name="tiny")
        session.execute(ROLES)
    yield module_database
    with psycopg.connect(module_database, autocommit=True) as session:
        session.execute(f"drop owned by {NAMES}; drop role {NAMES}")


@pytest.fixture
def connect_as(tiny: str) -> Iterator[Connect]:
    """Open sessions of a role, closed when the test ends."""
    opened: list[Session] = []

    def connect(role: str) -> Session:
        opened.append(psycopg.connect(tiny, user=role, autocommit=True))
        return opened[-1]

    yield connect
    for session in opened:
        session.close()


def value(session: Session, query: str) -> Any:
    [row] = session.execute(query).fetchall()
    return row[0]


def refusal(session: Session, query: str) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute(query)
    return caught.value.diag


# -- the grant ------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_without_a_grant_nothing_uses_the_model(connect_as: Connect, use: str) -> None:
    told = refusal(connect_as("alice"), use)
    assert told.message_primary == "pageformer: permission denied for model tiny"
    assert "select pageformer.grant_use('tiny', 'alice')" in str(told.message_hint)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("role", ["bob", "carol", "reader", "admin"])
def test_with_a_grant_everything_uses_it(connect_as: Connect, role: str, use: str) -> None:
    assert value(connect_as(role), use)


def test_a_role_that_does_not_inherit_must_take_the_granted_role(connect_as: Connect) -> None:
    session = connect_as("dave")
    refusal(session, ENCODE)
    session.execute("set role staff")
    assert value(session, ENCODE)


def test_the_hint_is_the_call_that_an_admin_runs(connect_as: Connect) -> None:
    alice, admin = connect_as("alice"), connect_as("admin")
    hint = str(refusal(alice, ENCODE).message_hint)
    admin.execute(hint[hint.index("select") :])
    assert value(alice, ENCODE)
    admin.execute("select pageformer.revoke_use('tiny', 'alice')")
    refusal(alice, ENCODE)


def test_a_grant_to_public_lets_everybody_use_the_model(connect_as: Connect) -> None:
    alice, admin = connect_as("alice"), connect_as("admin")
    admin.execute("select pageformer.grant_use('tiny', 'public')")
    assert value(alice, ENCODE)
    admin.execute("select pageformer.revoke_use('tiny', 'public')")
    refusal(alice, ENCODE)


def test_a_grant_that_is_rolled_back_lets_nobody_in(connect_as: Connect) -> None:
    admin = connect_as("admin")
    with admin.transaction(force_rollback=True):
        admin.execute("select pageformer.grant_use('tiny', 'alice')")
    refusal(connect_as("alice"), ENCODE)


def test_a_grant_to_a_role_that_is_gone_hurts_nobody(connect_as: Connect, tiny: str) -> None:
    superuser = connect_as("postgres")
    superuser.execute("create role short_lived; select pageformer.grant_use('tiny', 'short_lived')")
    superuser.execute("drop role short_lived")
    refusal(connect_as("alice"), ENCODE)
    assert value(connect_as("bob"), ENCODE)
    superuser.execute("select pageformer.revoke_use('tiny', 'short_lived')")


# -- what another role left in the session --------------------------------------------------------


@pytest.mark.parametrize("become", ["set role alice", "set session authorization alice"])
def test_a_cached_model_is_refused_to_the_next_role(connect_as: Connect, become: str) -> None:
    session = connect_as("postgres")
    vector = value(session, ENCODE)
    session.execute(become)
    refusal(session, ENCODE)
    session.execute("reset session authorization; reset role")
    assert value(session, ENCODE) == vector


def test_a_prepared_statement_asks_again(connect_as: Connect) -> None:
    session = connect_as("postgres")
    session.execute(f"prepare ask as {ENCODE}; set plan_cache_mode = force_generic_plan")
    assert value(session, "execute ask")
    session.execute("set role alice")
    refusal(session, "execute ask")


def test_a_cached_model_is_refused_once_revoked(connect_as: Connect) -> None:
    bob, admin = connect_as("bob"), connect_as("admin")
    assert value(bob, ENCODE)
    admin.execute("select pageformer.revoke_use('tiny', 'bob')")
    refusal(bob, ENCODE)
    admin.execute("select pageformer.grant_use('tiny', 'bob')")
    assert value(bob, ENCODE)


def definer_function(owner: Session, name: str) -> None:
    owner.execute(
        f"create or replace function public.{name}() returns text language sql security definer"
        f" as $$ {ENCODE} $$"
    )


def test_a_cached_model_is_refused_once_a_membership_ends(connect_as: Connect) -> None:
    carol, superuser = connect_as("carol"), connect_as("postgres")
    assert value(carol, ENCODE)
    superuser.execute("revoke staff from carol")
    refusal(carol, ENCODE)
    superuser.execute("grant staff to carol")
    assert value(carol, ENCODE)


def test_a_definer_function_has_the_rights_of_its_owner(connect_as: Connect) -> None:
    alice, bob = connect_as("alice"), connect_as("bob")
    definer_function(alice, "by_alice")
    definer_function(bob, "by_bob")
    assert value(alice, "select by_bob()")
    refusal(alice, ENCODE)
    told = refusal(bob, "select by_alice()")
    assert "grant_use('tiny', 'alice')" in str(told.message_hint)
    assert value(bob, ENCODE)


def test_definer_functions_within_one_session_keep_their_rights_apart(connect_as: Connect) -> None:
    alice, bob, superuser = connect_as("alice"), connect_as("bob"), connect_as("postgres")
    definer_function(alice, "by_alice")
    definer_function(bob, "by_bob")
    assert value(superuser, ENCODE)
    superuser.execute("set role bob")
    assert value(superuser, "select by_bob()")
    refusal(superuser, "select by_alice()")
    superuser.execute("set role alice")
    refusal(superuser, "select by_alice()")
    assert value(superuser, "select by_bob()")


def test_a_view_has_the_rights_of_whoever_reads_it(connect_as: Connect) -> None:
    alice, bob = connect_as("alice"), connect_as("bob")
    for owner, name in ((alice, "of_alice"), (bob, "of_bob")):
        owner.execute(f"create or replace view public.{name} as {ENCODE} as vector")
        owner.execute(f"grant select on public.{name} to public")
    refusal(alice, "table of_bob")
    refusal(alice, "table of_alice")
    assert value(bob, "table of_alice") == value(bob, "table of_bob")


def test_an_index_is_built_with_the_rights_of_the_tables_owner(connect_as: Connect) -> None:
    alice, superuser = connect_as("alice"), connect_as("postgres")
    alice.execute("create table public.doc (body text); insert into doc values ('a text')")
    indexing = "create index on public.doc (pageformer.encode_pinned(body, 'tiny@v1'))"
    assert value(superuser, ENCODE)
    refusal(superuser, indexing)
    alice.execute("drop table public.doc")


def test_names_of_the_callers_own_do_not_stand_in_for_ours(connect_as: Connect) -> None:
    alice = connect_as("alice")
    alice.execute(
        """
        create temp view usable_model as select id, name, deployed_id from pageformer.model;
        create function pg_temp.pg_has_role(name, text, text) returns boolean
            language sql as 'select true';
        create function pg_temp.pg_has_role(name, oid, text) returns boolean
            language sql as 'select true';
        create function pg_temp.encode_part(text, boolean, text, text, text, text, integer,
            boolean, text) returns public.vector language sql as $$ select '[1]'::public.vector $$;
        set search_path = pg_temp, pageformer, public, pg_catalog;
        """
    )
    refusal(alice, ENCODE)


# -- weights, settings, the page cache ------------------------------------------------------------


@pytest.mark.parametrize("table", ["page", "asset", "block", "placement", "tensor", "setting"])
@pytest.mark.parametrize("role", ["alice", "bob"])
def test_using_a_model_shows_none_of_its_tables(connect_as: Connect, role: str, table: str) -> None:
    refusal(connect_as(role), f"select * from pageformer.{table}")


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_using_a_model_shows_no_weight(connect_as: Connect, role: str) -> None:
    session = connect_as(role)
    refusal(session, "select * from pageformer.weights('tiny')")
    refusal(session, "select * from pageformer.pages")
    refusal(session, "select source, loaded_by from pageformer.version")


def test_a_reader_sees_weights_and_changes_nothing(connect_as: Connect) -> None:
    reader = connect_as("reader")
    assert value(reader, "select count(*) from pageformer.weights('tiny')") > 0
    assert value(reader, "select count(*) from pageformer.pages") > 0
    for change in (
        "delete from pageformer.model",
        "update pageformer.page set data = ''",
        "select pageformer.grant_use('tiny', 'alice')",
        "select pageformer.drop_version('tiny', 'v1')",
    ):
        refusal(reader, change)


@pytest.mark.parametrize("key", ["null", "''", "'key'", "decode(repeat('00', 32), 'hex')"])
@pytest.mark.parametrize("role", ["alice", "bob", "admin", "postgres"])
def test_the_owners_door_stays_shut_without_its_key(
    connect_as: Connect, role: str, key: str
) -> None:
    session = connect_as(role)
    for _ in range(2):  # before and after the session has used it
        told = refusal(session, f"select pageformer.as_owner({key})")
        assert "called by pageformer's own functions only" in str(told.message_primary)
        if role != "alice":
            assert value(session, ENCODE)


def test_only_the_owner_writes_settings(connect_as: Connect) -> None:
    for role in ("bob", "reader", "admin"):
        refusal(connect_as(role), "update pageformer.setting set value = '/tmp'")
        refusal(connect_as(role), "insert into pageformer.setting values ('a', 'b', 'c')")


def test_cache_files_are_for_the_servers_user_alone(connect_as: Connect, cluster: Cluster) -> None:
    bob = connect_as("bob")
    assert value(bob, ENCODE)
    maps = Path(f"/proc/{bob.info.backend_pid}/maps").read_text().split()
    files = [Path(word) for word in maps if word.startswith("/dev/shm/pageformer-")]
    assert files
    owner = server_account().get("user", os.geteuid())
    modes = {file: 0o600 if file.name in ("at-work", "usage.1") else 0o400 for file in files}
    for path, mode in [(files[0].parent, 0o700), *modes.items()]:
        assert path.stat().st_uid == owner
        assert stat.S_IMODE(path.stat().st_mode) == mode
    refusal(bob, f"select pg_ls_dir('{files[0].parent}')")


# -- what else a role may and may not -------------------------------------------------------------


def test_encode_works_in_a_read_only_transaction(connect_as: Connect) -> None:
    bob = connect_as("bob")
    bob.execute("set default_transaction_read_only = on")
    for use in USES.values():
        assert value(bob, use)


def test_views_show_what_the_caller_may_use(connect_as: Connect) -> None:
    for view in ("models", "model_versions", "tensors"):
        assert value(connect_as("alice"), f"select count(*) from pageformer.{view}") == 0
        for role in ("bob", "carol", "reader", "postgres"):
            assert value(connect_as(role), f"select count(*) from pageformer.{view}") > 0


def test_an_ordinary_role_administers_nothing(connect_as: Connect) -> None:
    for call in (
        "deploy('tiny', 'v1')", "rename_model('tiny', 'b')", "drop_version('tiny', 'v1')",
        "grant_use('tiny', 'alice')", "revoke_use('tiny', 'bob')",
    ):  # fmt: skip
        for role in ("alice", "bob"):
            refusal(connect_as(role), f"select pageformer.{call}")
    for table in ("model", "version", "model_grant"):
        refusal(connect_as("bob"), f"delete from pageformer.{table}")


def test_an_admin_loads_deploys_and_drops(connect_as: Connect, tmp_path: Path) -> None:
    admin = connect_as("admin")
    for name in ("bert-mean", "bert-cased"):
        load(admin, tiny_models.write(name, tmp_path), name="of_admin")
    admin.execute("select pageformer.deploy('of_admin', 'v2')")
    admin.execute("select pageformer.rename_model('of_admin', 'renamed')")
    assert value(admin, "select pageformer.count_tokens('a', 'renamed')")
    admin.execute("select pageformer.drop_version('renamed', 'v1')")
    admin.execute("select pageformer.drop_version('renamed', 'v2')")
    refusal(admin, "update pageformer.setting set value = '/tmp'")


def test_public_may_call_these_functions_and_no_others(connect_as: Connect) -> None:
    rows = connect_as("postgres").execute(
        """
        select n.nspname, array_agg(distinct p.proname::text)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where n.nspname in ('pageformer', 'pageformer_op') and a.grantee = 0
        group by n.nspname
        """
    )
    assert {schema: set(names) for schema, names in rows} == PUBLIC_FUNCTIONS


def test_every_function_pins_its_search_path_and_is_the_owners(connect_as: Connect) -> None:
    rows = connect_as("postgres").execute(
        """
        select p.oid::regprocedure::text, pg_get_userbyid(p.proowner), p.proconfig::text,
            p.prosqlbody is not null
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('pageformer', 'pageformer_op') and p.prokind <> 'a'
        """
    )
    pinned = re.compile(r"search_path=pg_catalog, pageformer(_op)?, pg_temp")
    for name, owner, settings, bound_when_made in rows:
        assert owner == "pageformer_owner", name
        # same_space finds the table that its caller would; all that it names has its schema.
        safe = bound_when_made or name.startswith("pageformer.same_space(")
        assert safe or pinned.search(str(settings)), name


def test_one_definer_function_leads_to_weights_another_forgets(connect_as: Connect) -> None:
    rows = connect_as("postgres").execute(
        """
        select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('pageformer', 'pageformer_op') and p.prosecdef
        """
    )
    assert sorted(name for (name,) in rows) == ["as_owner", "forget_embedding"]
