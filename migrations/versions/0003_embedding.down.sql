drop table pageformer.embedded_row, pageformer.embedded_column;
