/* The Python type Encoder: a version, checked once, that jobs run. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

PyTypeObject *encoder_type;

/* Room behind a vector for the rest of a strip. */
enum { PADDING = 64 };

/* A copy of `count` floats with zeros behind them, in memory of the encoder's own. */
static float *vector_in(struct encoder_object *self, PyObject *object, Py_ssize_t count) {
    Py_buffer buffer;
    if (get_floats(object, &buffer)) return NULL;
    PyObject *copy = NULL;
    if (buffer.len != count * 4)
        PyErr_Format(PyExc_ValueError, "a vector has %zd elements, not %zd", buffer.len / 4, count);
    else
        copy = PyByteArray_FromStringAndSize(NULL, (count + PADDING) * 4);
    if (copy) {
        memset(PyByteArray_AS_STRING(copy), 0, (size_t)(count + PADDING) * 4);
        memcpy(PyByteArray_AS_STRING(copy), buffer.buf, (size_t)buffer.len);
    }
    PyBuffer_Release(&buffer);
    if (!copy || PyList_Append(self->held, copy)) {
        Py_XDECREF(copy);
        return NULL;
    }
    Py_DECREF(copy); /* the list holds it */
    return (float *)PyByteArray_AS_STRING(copy);
}

static struct matrix *held_matrix(struct encoder_object *self, PyObject *object, int rows, int cols) {
    struct matrix *matrix = matrix_in(object);
    if (!matrix || PyList_Append(self->held, object)) return NULL;
    if ((rows && matrix->rows != rows) || matrix->cols != cols) {
        PyErr_Format(PyExc_ValueError, "a matrix is %d x %d, not %d x %d", matrix->rows,
                     matrix->cols, rows, cols);
        return NULL;
    }
    return matrix;
}

/* Panels (panels.c) that lie in a buffer; the encoder holds the buffer. */
static const void *panels_in(struct encoder_object *self, PyObject *object, enum form form, int rows,
                             int cols) {
    PyObject *view = PyMemoryView_FromObject(object);
    if (!view || PyList_Append(self->held, view)) {
        Py_XDECREF(view);
        return NULL;
    }
    Py_DECREF(view); /* the list holds it */
    const Py_buffer *buffer = PyMemoryView_GET_BUFFER(view);
    const size_t size = panel_bytes(form, rows) * (size_t)(cols / PANEL_COLUMNS);
    if (rows % 32 == 0 && cols % 32 == 0 && buffer->len == (Py_ssize_t)size) return buffer->buf;
    PyErr_Format(PyExc_ValueError, "panels of %zd bytes for a matrix of %d x %d", buffer->len, rows,
                 cols);
    return NULL;
}

static int set_linear(struct encoder_object *self, struct linear *linear, PyObject *parts, int rows,
                      int cols) {
    PyObject *weight, *bias, *panels;
    int form;
    if (!PyArg_ParseTuple(parts, "OOOi", &weight, &bias, &panels, &form)) return -1;
    linear->form = form == BFLOAT16 || form == INT8 ? (enum form)form : FLOAT32;
    linear->weight = held_matrix(self, weight, rows, cols);
    linear->bias = linear->weight ? vector_in(self, bias, cols) : NULL;
    if (!linear->bias || linear->form == FLOAT32) return linear->bias ? 0 : -1;
    linear->panels = panels_in(self, panels, linear->form, rows, cols);
    if (linear->form > self->encoder.form) self->encoder.form = linear->form;
    return linear->panels ? 0 : -1;
}

static int set_norm(struct encoder_object *self, struct norm *norm, PyObject *pair) {
    PyObject *weight, *bias;
    if (!PyArg_ParseTuple(pair, "OO", &weight, &bias)) return -1;
    norm->weight = vector_in(self, weight, self->encoder.hidden);
    norm->bias = norm->weight ? vector_in(self, bias, self->encoder.hidden) : NULL;
    return norm->bias ? 0 : -1;
}

static int set_layer(struct encoder_object *self, struct layer *layer, PyObject *parts) {
    const int h = self->encoder.hidden, inner = self->encoder.intermediate;
    PyObject *q, *k, *v, *output, *norm, *up = NULL, *down = NULL, *last = NULL;
    if (!PyArg_ParseTuple(parts, inner ? "OOOOOOOO" : "OOOOO", &q, &k, &v, &output, &norm, &up, &down,
                          &last))
        return -1;
    if (set_linear(self, &layer->query, q, h, h) || set_linear(self, &layer->key, k, h, h) ||
        set_linear(self, &layer->value, v, h, h) || set_linear(self, &layer->output, output, h, h) ||
        set_norm(self, &layer->attention_norm, norm))
        return -1;
    return inner && (set_linear(self, &layer->up, up, h, inner) ||
                     set_linear(self, &layer->down, down, inner, h) ||
                     set_norm(self, &layer->feed_forward_norm, last))
               ? -1
               : 0;
}

static int set_tables(struct encoder_object *self, PyObject *tables) {
    struct encoder *encoder = &self->encoder;
    encoder->table_count = (int)PyTuple_GET_SIZE(tables);
    if (encoder->table_count == 1 || encoder->table_count > MOST_TABLES) {
        PyErr_SetString(PyExc_ValueError,
                        "tables are: words, positions, and maybe token types; or none");
        return -1;
    }
    for (int t = 0; t < encoder->table_count; t++) {
        encoder->tables[t] = held_matrix(self, PyTuple_GET_ITEM(tables, t), 0, encoder->hidden);
        if (!encoder->tables[t]) return -1;
        if (encoder->tables[t]->side != encoder->tables[0]->side) {
            PyErr_SetString(PyExc_ValueError, "the tables are cut into blocks of different sides");
            return -1;
        }
    }
    return 0;
}

static int set_layers(struct encoder_object *self, PyObject *layers) {
    struct encoder *encoder = &self->encoder;
    encoder->layer_count = (int)PyTuple_GET_SIZE(layers);
    encoder->layers = PyMem_Calloc((size_t)encoder->layer_count + 1, sizeof(struct layer));
    if (!encoder->layers) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < encoder->layer_count; i++)
        if (set_layer(self, &encoder->layers[i], PyTuple_GET_ITEM(layers, i))) return -1;
    return 0;
}

static int set_activation(struct encoder *encoder, const char *name) {
    static const char *const names[] = {"", "gelu", "gelu_tanh", "relu"};
    for (int i = 1; i < 4; i++)
        if (!strcmp(names[i], name)) encoder->activation = i;
    if (encoder->activation) return 0;
    PyErr_Format(PyExc_ValueError, "activation '%s' is not known", name);
    return -1;
}

static int check_sizes(const struct encoder *encoder) {
    const int first = encoder->padding_id < 0 ? 0 : encoder->padding_id + 1;
    const int fits = encoder->table_count
                         ? encoder->longest > 0 && encoder->longest + first <= encoder->tables[1]->rows
                         : encoder->longest == 0;
    if (encoder->heads > 0 && encoder->hidden > 0 && encoder->hidden % encoder->heads == 0 &&
        encoder->intermediate >= 0 && fits)
        return 0;
    PyErr_SetString(PyExc_ValueError, "sizes of this encoder do not go together");
    return -1;
}

/* Products that read float32 need it to be there, and those that read panels to have had them made. */
static int check_forms(const struct encoder *encoder) {
    int wide = 0;
    for (int i = 0; i < encoder->layer_count; i++) {
        const struct layer *layer = &encoder->layers[i];
        wide |= !layer->query.form || !layer->key.form || !layer->value.form ||
                !layer->output.form || !layer->up.form || !layer->down.form;
    }
    if (encoder->form != FLOAT32 && (encoder->norm_first || !encoder->table_count)) {
        PyErr_SetString(PyExc_ValueError, "layers alone, and pre-norm ones, are computed in float32");
        return -1;
    }
    if (!wide || encoder->form == FLOAT32) return 0;
    PyErr_SetString(PyExc_ValueError, "float32 products do not stand beside narrower ones");
    return -1;
}

static PyObject *new_encoder(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    static char *keywords[] = {"variant", "hidden", "heads", "intermediate", "activation", "eps",
                               "padding_id", "longest", "first_token", "tables", "norm", "layers",
                               "relative", "norm_first", "final_activation", NULL};
    struct encoder_object *self = (struct encoder_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    struct encoder *e = &self->encoder;
    const char *variant, *activation;
    PyObject *tables, *norm, *layers, *relative;
    int good = PyArg_ParseTupleAndKeywords(
        arguments, names, "siiisfiipO!OO!O|pp", keywords, &variant, &e->hidden, &e->heads,
        &e->intermediate, &activation, &e->eps, &e->padding_id, &e->longest, &e->first_token,
        &PyTuple_Type, &tables, &norm, &PyTuple_Type, &layers, &relative,
        &e->norm_first, &e->final_activation);
    self->held = PyList_New(0);
    good = good && self->held && (e->variant = variant_named(variant)) &&
           !set_activation(e, activation) && !set_tables(self, tables) &&
           !check_sizes(e) && (!e->table_count || !set_norm(self, &e->embedding_norm, norm)) &&
           !set_layers(self, layers) && !check_forms(e);
    e->edits = !e->table_count && !e->norm_first && e->intermediate;
    if (good && relative != Py_None) {
        e->relative = vector_in(self, relative, (Py_ssize_t)e->heads * (2 * e->longest - 1));
        good = e->relative != NULL;
    }
    if (good) return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void free_encoder(PyObject *object) {
    struct encoder_object *self = (struct encoder_object *)object;
    PyMem_Free(self->encoder.layers);
    Py_XDECREF(self->held);
    dealloc_memory(object);
}

static PyType_Slot encoder_slots[] = {
    {Py_tp_doc, "Encoder(...): an encoder, or layers alone, ready to run."},
    {Py_tp_new, new_encoder},
    {Py_tp_dealloc, free_encoder},
    {0, NULL},
};
static PyType_Spec encoder_spec = {"pageformer.cpu_backend._kernels.Encoder",
                                   sizeof(struct encoder_object), 0, Py_TPFLAGS_DEFAULT,
                                   encoder_slots};

int add_encoder(PyObject *module) {
    encoder_type = (PyTypeObject *)PyType_FromSpec(&encoder_spec);
    return encoder_type ? PyModule_AddType(module, encoder_type) : -1;
}
