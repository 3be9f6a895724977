"""What a user meets at `encode` and its kin: options, errors, warnings, nulls."""

from typing import Any

import numpy as np
import psycopg
import pytest

from pageformer.loader.load import load
from pageformer.udfs.block_value import pack_block
from pageformer.udfs.blocks import array_to_block


@pytest.fixture
def session(minilm: str) -> Any:
    with psycopg.connect(minilm, autocommit=True) as connection:
        connection.execute("set search_path = pageformer, public")
        yield connection


def value(session: Any, query: str, *arguments: object) -> Any:
    return session.execute(query, arguments).fetchone()[0]


def refusal(session: Any, query: str, *arguments: object) -> tuple[str, str, str]:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(query, arguments)
    told = caught.value.diag
    return told.sqlstate or "", told.message_primary or "", told.message_hint or ""


def test_null_stays_null(session: Any) -> None:
    assert value(session, "select encode(null, 'minilm')") is None
    assert value(session, "select encode_batch(null, 'minilm')") is None
    assert value(session, "select encode_pinned(null, 'minilm@v1')") is None
    assert value(session, "select count_tokens(null, 'minilm')") is None
    assert session.execute("select * from encode_tokens(null, 'minilm')").fetchall() == []


def test_an_empty_batch_gives_an_empty_array(session: Any) -> None:
    assert value(session, "select encode_batch('{}', 'minilm')::text") == "{}"


def test_a_batch_of_nulls_stays_a_batch_of_nulls(session: Any) -> None:
    assert value(session, "select encode_batch(array[null, null], 'minilm')::text") == "{NULL,NULL}"


def test_an_unknown_model_is_told_with_those_that_are_loaded(session: Any) -> None:
    assert refusal(session, "select encode('a', 'bert')") == (
        "42704",
        'pageformer: model "bert" does not exist',
        "models that are loaded: minilm",
    )


def test_a_database_without_models_says_how_to_load_one(database: str) -> None:
    with psycopg.connect(database) as session:
        _, _, hint = refusal(session, "select pageformer.encode('a', 'minilm')")
    assert hint == "no model is loaded yet: pageformer load DIR --name NAME"


def test_swapped_arguments_are_noticed(session: Any) -> None:
    state, _, hint = refusal(session, "select encode('minilm', 'a text')")
    assert state == "42704"
    assert hint == "the arguments are swapped: the model comes second, encode(…, 'minilm')"


@pytest.mark.parametrize("form", ["hex", "base64", "escape"])
def test_postgresqls_own_encode_is_pointed_to(session: Any, form: str) -> None:
    _, _, hint = refusal(session, f"select encode('\\xdead', '{form}')")
    assert hint == f"for PostgreSQL's own encode, cast the input: encode(…::bytea, '{form}')"
    assert value(session, "select encode('\\xdead'::bytea, 'hex')") == "dead"


def test_an_unknown_version_is_told_with_those_there_are(session: Any) -> None:
    assert refusal(session, "select encode('a', 'minilm@v9')") == (
        "42704",
        "pageformer: model minilm has no version v9",
        "its versions: v1",
    )


def test_a_null_model_is_refused(session: Any) -> None:
    state, message, _ = refusal(session, "select encode('a', null)")
    assert (state, message) == ("22023", "pageformer: the model is null")


def test_a_version_is_named_by_label_or_by_hash(session: Any) -> None:
    prefix = value(session, "select left(hash, 8) from model_versions")
    for name in ("minilm@v1", f"minilm@{prefix}"):
        assert value(session, "select encode('a', %s) = encode('a', 'minilm')", name)


def test_encode_pinned_refuses_a_moving_name(session: Any) -> None:
    assert refusal(session, "select encode_pinned('a', 'minilm')") == (
        "22023",
        'pageformer: "minilm" is a moving name: another version may be deployed',
        "pin a version, as in 'minilm@v1'; see pageformer.model_versions",
    )


def test_encode_pinned_serves_an_expression_index(session: Any) -> None:
    session.execute("create temporary table doc (body text)")
    session.execute("insert into doc values ('a cat'), ('a dog')")
    session.execute(
        "create index on doc using hnsw ((encode_pinned(body, 'minilm@v1')::vector(384))"
        " vector_cosine_ops)"
    )
    plan = session.execute(
        "set enable_seqscan = off; explain select body from doc"
        " order by encode_pinned(body, 'minilm@v1')::vector(384) <=> encode('kitten', 'minilm')"
        " limit 1"
    )
    while plan.nextset():
        pass
    assert "Index Scan" in str(plan.fetchall())


@pytest.mark.parametrize(
    ("option", "state", "message"),
    [
        ("task => 'legal'", "42704", 'minilm@v1 has no task "legal"'),
        ("dimensions => 0", "22023", "dimensions is 0, but this model has 384"),
        ("dimensions => 385", "22023", "dimensions is 385, but this model has 384"),
        ("prompt_name => 'query'", "42704", 'this model has no prompt "query"'),
        ("prompt => 'a', prompt_name => 'b'", "22023", "prompt and prompt_name are both given"),
        ("truncate => 'middle'", "22023", "truncate is 'right', 'left' or 'error', not 'middle'"),
        ("truncate => null", "22023", "truncate is 'right', 'left' or 'error', not 'null'"),
    ],
)
def test_options_are_refused_clearly(session: Any, option: str, state: str, message: str) -> None:
    for call in (f"encode('a', 'minilm', {option})", f"encode_batch('{{a}}', 'minilm', {option})"):
        assert refusal(session, f"select {call}")[:2] == (state, f"pageformer: {message}")


def test_a_prompt_stands_in_front_of_the_text(session: Any) -> None:
    query = "select encode('cat', 'minilm', prompt => 'a small ') = encode('a small cat', 'minilm')"
    assert value(session, query)


def test_dimensions_are_cut_and_normalised_again(session: Any) -> None:
    cut = "encode('a cat', 'minilm', dimensions => 64)"
    whole = "encode('a cat', 'minilm')"
    assert value(session, f"select vector_dims({cut})") == 64
    assert value(session, f"select abs(vector_norm({cut}) - 1) < 1e-6")
    assert value(session, f"select ({cut} <=> subvector({whole}, 1, 64)) < 1e-6")


def test_normalisation_can_be_left_out(session: Any) -> None:
    raw = "encode('a cat', 'minilm', normalized => false)"
    assert value(session, f"select abs(vector_norm({raw}) - 1) > 0.1")
    assert value(session, f"select (l2_normalize({raw}) <-> encode('a cat', 'minilm')) < 1e-6")


def test_a_cut_is_told_once_per_statement(session: Any) -> None:
    told: list[str] = []
    session.add_notice_handler(lambda notice: told.append(notice.message_primary))
    long = "repeat('hello ', 1000)"
    session.execute(f"select encode({long}, 'minilm') from generate_series(1, 3)")
    session.execute(f"select encode_batch(array[{long}, 'b', {long}], 'minilm')")
    session.execute("select encode('short', 'minilm')")
    assert told == [
        "an input was cut to the 256 tokens that minilm takes",
        "2 of 3 inputs were cut to the 256 tokens that minilm takes",
    ]


def test_a_text_that_is_too_long_can_be_refused(session: Any) -> None:
    query = "select encode(repeat('hello ', %s), 'minilm', truncate => 'error')"
    session.execute(query, [254])
    state, message, _ = refusal(session, query, 255)
    assert state == "22023"
    assert message == "pageformer: the input has more than 256 tokens, the most this model takes"


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("size", [255, 70_000, 3_000_000])
def test_the_near_end_of_a_long_text_tells_its_vector(session: Any, side: str, size: int) -> None:
    kept = "repeat('near ', 300)"
    far = f"repeat('far away ', {size // 9})"
    long = f"{kept} || {far}" if side == "right" else f"{far} || {kept}"
    query = (
        f"select encode({long}, 'minilm', truncate => '{side}')"
        f" = encode({kept}, 'minilm', truncate => '{side}')"
    )
    assert value(session, query)


def test_a_hundred_megabytes_are_answered_from_their_beginning(session: Any) -> None:
    query = "select encode(repeat('hello ', 20000000), 'minilm')"
    assert value(session, f"{query} = encode(repeat('hello ', 254), 'minilm')")


def test_a_model_that_takes_text_takes_tensors_too(session: Any) -> None:
    query = "select encode_tensor(array_fill(0.5::real, array[2, 3, 384]), 'minilm')"
    assert value(session, f"select array_dims(({query}))") == "[1:2][1:3][1:384]"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("array_fill(1::real, array[2, 384])", "shape [2, 384], not [batch, sequence, 384]"),
        ("array_fill(1::real, array[1, 2, 3])", "shape [1, 2, 3], not [batch, sequence, 384]"),
        ("'{}'::real[]", "shape [0], not [batch, sequence, 384]"),
        ("array[[[null, 1]]]::real[]", "the tensor has a null element"),
    ],
)
def test_a_tensor_of_another_shape_is_refused(session: Any, tensor: str, message: str) -> None:
    state, told, _ = refusal(session, f"select encode_tensor({tensor}, 'minilm')")
    assert state == "22023"
    assert told.endswith(message)


def test_blocks_go_through_the_layers_as_a_tensor_does(session: Any) -> None:
    tensor = np.random.default_rng(0).standard_normal((2, 3, 384), np.float32)
    query = (
        "select pageformer_op.to_tensor(encode_blocks(%s::bytea[], 'minilm'))"
        " = encode_tensor(%s::real[], 'minilm')"
    )
    given = [array_to_block(matrix) for matrix in tensor], tensor.tolist()
    assert session.execute(query, given).fetchone() == (True,)


def test_blocks_are_sequences_of_lengths_of_their_own(session: Any) -> None:
    drawn = np.random.default_rng(0).standard_normal((5, 384), np.float32)
    blocks = [array_to_block(drawn[:2]), array_to_block(drawn[2:])]
    query = "select encode_blocks(%s::bytea[], 'minilm')"
    [[together]] = session.execute(query, [blocks])
    apart = [session.execute(query, [[block]]).fetchone()[0][0] for block in blocks]
    assert [len(block) for block in together] == [16 + 4 * 2 * 384, 16 + 4 * 3 * 384]
    assert together == apart


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_blocks_in_16_bits_are_widened(session: Any, form: str) -> None:
    narrow, wide = pack_block(form, 2, 384, bytes(1536)), pack_block("f32", 2, 384, bytes(3072))
    query = "select encode_blocks(array[%s::bytea], 'minilm') = encode_blocks(array[%s], 'minilm')"
    assert session.execute(query, [narrow, wide]).fetchone() == (True,)


def test_no_blocks_are_answered_with_none(session: Any) -> None:
    assert value(session, "select encode_blocks(null, 'minilm')") is None
    assert value(session, "select encode_blocks('{}', 'minilm')") == []


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("array[pageformer_op.from_array(array[[1, 2, 3]])]", "shape [1, 3], not [rows, 384]"),
        ("array['\\xabcd'::bytea]", "not a block: a block starts with a header of 16 bytes"),
        ("array[null::bytea]", "a block is null"),
        ("array[pageformer_op.block('f32', 0, 384, '')]", "shape [0, 384], not [rows, 384]"),
    ],
)
def test_what_is_no_sequence_of_the_model_is_refused(
    session: Any, blocks: str, message: str
) -> None:
    state, told, _ = refusal(session, f"select encode_blocks({blocks}, 'minilm')")
    assert state == "22023"
    assert told.endswith(message)


def test_what_is_not_a_number_stays_visible(session: Any) -> None:
    query = "select encode_tensor(array_fill('nan'::real, array[1, 1, 384]), 'minilm')"
    assert value(session, f"select ({query})[1][1][1]::text") == "NaN"


def test_tokens_carry_their_place_in_the_text(session: Any) -> None:
    rows = session.execute(
        "select token, substr(body, start_offset + 1, end_offset - start_offset)"
        " from (select 'Größe of unbelievable things') t (body), tokenize(body, 'minilm')"
    ).fetchall()
    assert rows == [
        ("[CLS]", ""), ("gr", "Gr"), ("##o", "ö"), ("##ße", "ße"), ("of", "of"),
        ("unbelievable", "unbelievable"), ("things", "things"), ("[SEP]", ""),
    ]  # fmt: skip


def test_long_texts_are_counted_whole(session: Any) -> None:
    assert value(session, "select count_tokens(repeat('hello ', 100000), 'minilm')") == 100_002


def test_tokens_are_numbered_from_one_and_sum_up_to_the_vector(session: Any) -> None:
    rows = session.execute(
        "select index, token from encode_tokens('a cat', 'minilm') order by index"
    ).fetchall()
    assert rows == [(1, "[CLS]"), (2, "a"), (3, "cat"), (4, "[SEP]")]
    assert value(
        session,
        "select (l2_normalize(avg(embedding)) <-> encode('a cat', 'minilm')) < 1e-6"
        " from encode_tokens('a cat', 'minilm')",
    )


def test_a_read_only_transaction_may_encode(session: Any) -> None:
    session.execute("set default_transaction_read_only = on")
    assert value(session, "select vector_dims(encode('a', 'minilm'))") == 384


def test_a_dropped_model_is_gone_at_once(database: str, minilm_dir: Any) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
        session.execute("select pageformer.encode('a', 'minilm')")
        session.execute("select pageformer.drop_version('minilm', 'v1')")
        assert refusal(session, "select pageformer.encode('a', 'minilm')")[0] == "42704"


def test_preload_and_verify_count_the_pages(session: Any) -> None:
    pages = value(session, "select count(*) from pages")
    assert value(session, "select preload('minilm')") == pages
    assert value(session, "select verify('minilm')") == pages


def test_one_statement_computes_one_text_once(session: Any) -> None:
    computed = """
        do $$
        from pageformer.udfs import server
        plpy.notice(server.encode_repeated.cache_info().misses)
        $$ language plpython3u
    """
    told: list[int] = []
    session.add_notice_handler(lambda notice: told.append(int(notice.message_primary)))
    session.execute("select encode('warm', 'minilm')")
    session.execute(computed)
    session.execute("select encode('a cat', 'minilm') from generate_series(1, 50)")
    session.execute(computed)
    session.execute("select encode('a cat', 'minilm')")
    session.execute(computed)
    assert [count - told[0] for count in told] == [0, 1, 2]
