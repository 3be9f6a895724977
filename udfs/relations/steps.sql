-- The steps of a forward pass, each a query over relations of blocks: (block_row, block_col, block). A row
-- of blocks holds tokens that follow each other in one sequence. relational.py puts names for {names}.

-- name: token
select (t.number - 1)::integer as position, t.id, ({place})::integer as place
from pg_catalog.unnest($1::integer[]) with ordinality t (id, number)

-- name: place_after_padding
case when t.id = {padding_id} then {padding_id}
    else {padding_id} + count(*) filter (where t.id <> {padding_id}) over (order by t.number) end

-- name: token_span
select position / {side} + 1 as block_row, 1 as sequence,
    min(position) as first, count(*)::integer as rows
from token
group by position / {side}

-- name: tensor_block
select pg_catalog.dense_rank() over (order by t.sequence, part.block_row)::integer as block_row,
    part.block_col, part.block, t.sequence, (part.block_row - 1) * {side} as first
from pageformer_op.from_tensor($1::real[]) t
cross join lateral pageformer_op.tile(t.block, {side}, {side}) part

-- name: tensor_span
select distinct block_row, sequence, first,
    least({side}, pg_catalog.array_length($1::real[], 2) - first) as rows
from input

-- name: patch
select part.block_row, part.block_col, part.block
from pageformer_op.tile(pageformer_op.from_array($1::real[]), {side}, {side}) part

-- name: patch_span
select first / {side} + 1 as block_row, 1 as sequence, first,
    least({side}, pg_catalog.array_length($1::real[], 1) + 1 - first) as rows
from pg_catalog.generate_series(0, pg_catalog.array_length($1::real[], 1), {side}) first

-- name: class_and_patches
select part.block_row, high.block_col, part.block
from (
    select block_col, pageformer_op.stack(block order by block_row) as block
    from (
        select 0 as block_row, block_col, block
        from pageformer.weight_vector({model}, {first})
        union all
        select block_row, block_col, block from {x}
    ) below_each_other
    group by block_col
) high
cross join lateral pageformer_op.tile(high.block, {side}, {side}) part

-- name: placed
select x.block_row, x.block_col, pageformer_op.add(x.block, place.block) as block
from {x} x
join pageformer.weight_matrix({model}, {table}) place using (block_row, block_col)

-- name: table
select w.block_row, w.block_col, w.block
from pageformer.weight_matrix({model}, {table}) w

-- name: lookup
select token.position / {side} + 1 as block_row, w.block_col,
    pageformer_op.stack(pageformer_op.slice(w.block, token.{column} % {side} + 1, 1)
        order by token.position) as block
from token
join pageformer.weight_matrix({model}, {table}) w
    on w.block_row = token.{column} / {side} + 1
group by token.position / {side}, w.block_col

-- name: embedding
select word.block_row, word.block_col,
    {block} as block
from word{joins}

-- name: linear
select product.block_row, product.block_col,
    {block} as block
from (
    select x.block_row, w.block_col,
        pageformer_op.sum(pageformer_op.matmul(x.block, w.block)) as block
    from {x} x
    join pageformer.weight_matrix({model}, {weight}) w
        on w.block_row = x.block_col
    group by x.block_row, w.block_col
) product{joins}

-- name: moments
select block_row, pageformer_op.merge_moments(pageformer_op.row_moments(block)) as block
from {x}
group by block_row

-- name: norm
select x.block_row, x.block_col,
    pageformer_op.layer_norm_part(
        x.block, moments.block, weight.block, {bias}, {eps}) as block
from {x} x
join {moments} moments using (block_row){joins}

-- name: heads
select whole.block_row, head.block_col as head,
    {block} as block
from (
    select block_row, pageformer_op.concat(block order by block_col) as block
    from {x}
    group by block_row
) whole
cross join lateral pageformer_op.tile(whole.block, {side}, {width}) head{joins}

-- name: position_heads
select head.block_col as head, pageformer_op.stack(head.block order by whole.block_row) as block
from (
    select block_row, pageformer_op.concat(block order by block_col) as block
    from {x}
    group by block_row
) whole
cross join lateral pageformer_op.tile(whole.block, {side}, {width}) head
group by head.block_col

-- name: alibi
select q.block_row, k.block_row as key_row, head.number as head,
    pageformer_op.alibi(q.rows, q.first, k.rows, k.first, head.slope) as block
from span q
join span k using (sequence)
cross join pg_catalog.unnest(array{slopes}) with ordinality head (slope, number)

-- name: relative_bias
select q.block_row, k.block_row as key_row, head.number as head,
    pageformer_op.relative_bias(bias.block, head.number, q.rows, q.first, k.rows, k.first) as block
from span q
join span k using (sequence)
cross join pg_catalog.generate_series(1, {heads}) head (number)
cross join (
    select pageformer_op.stack(whole.block order by whole.block_row) as block
    from (
        select w.block_row, pageformer_op.concat(w.block order by w.block_col) as block
        from pageformer.weight_matrix({model}, {table}) w
        group by w.block_row
    ) whole
) bias

-- name: score
select q.block_row, k.block_row as key_row, q.head,
    {block} as block
from {query} q
join {key} k using (head)
join span q_span on q_span.block_row = q.block_row
join span k_span on k_span.block_row = k.block_row and k_span.sequence = q_span.sequence{joins}

-- name: row_max
select block_row, head, pageformer_op.maximum(pageformer_op.row_max(block)) as block
from {score}
group by block_row, head

-- name: exp_sum
select score.block_row, score.head,
    pageformer_op.sum(pageformer_op.exp_sum(score.block, row_max.block)) as block
from {score} score
join {row_max} row_max using (block_row, head)
group by score.block_row, score.head

-- name: mixed
select score.block_row, score.head, pageformer_op.sum(pageformer_op.matmul(
    pageformer_op.softmax_part(score.block, row_max.block, exp_sum.block), value.block)) as block
from {score} score
join {row_max} row_max using (block_row, head)
join {exp_sum} exp_sum using (block_row, head)
join {value} value on value.block_row = score.key_row and value.head = score.head
group by score.block_row, score.head

-- name: joined_heads
select whole.block_row, part.block_col, part.block
from (
    select block_row, pageformer_op.concat(block order by head) as block
    from {x}
    group by block_row
) whole
cross join lateral pageformer_op.tile(whole.block, {side}, {side}) part

-- name: pooled
select part.block_row, part.block_col, part.block
from (
    select pageformer_op.concat(pageformer_op.pool(high.block, mode.name, {skip})
        order by mode.number, high.block_col) as block
    from (
        select block_col, pageformer_op.stack(block order by block_row) as block
        from {x}
        group by block_col
    ) high
    cross join pg_catalog.unnest({modes}) with ordinality mode (name, number)
) whole
cross join lateral pageformer_op.tile(whole.block, {side}, {side}) part

-- name: square_sum
select block_row, pageformer_op.sum(pageformer_op.square_sum(block)) as block
from {x}
group by block_row

-- name: normalized
select x.block_row, x.block_col, pageformer_op.normalize_part(x.block, length.block) as block
from {x} x
join {length} length using (block_row)

-- name: vector
select pageformer.to_vector(pageformer_op.slice(
    pageformer_op.concat(block order by block_col), 1, 1, 1, {width})) as embedding
from {x}

-- name: tensor
select pageformer_op.to_tensor(pg_catalog.array_agg(whole.block order by whole.sequence)) as tensor
from (
    select high.sequence, pageformer_op.concat(high.block order by high.block_col) as block
    from (
        select span.sequence, x.block_col,
            pageformer_op.stack(x.block order by x.block_row) as block
        from {x} x
        join span using (block_row)
        group by span.sequence, x.block_col
    ) high
    group by high.sequence
) whole

-- name: join_bias
join pageformer.weight_vector({model}, {tensor}) {alias}
    using (block_col)

-- name: join_table_row
join pageformer.weight_matrix({model}, {tensor}) {alias}
    on {alias}.block_row = 1 and {alias}.block_col = word.block_col

-- name: join_same
join {x} {alias} using (block_row, block_col)

-- name: join_span
join span on span.block_row = whole.block_row

-- name: join_distance_bias
join distance_bias
    on distance_bias.block_row = q.block_row and distance_bias.key_row = k.block_row
        and distance_bias.head = q.head

-- name: join_positions
join {x} {alias} on {alias}.head = q.head
