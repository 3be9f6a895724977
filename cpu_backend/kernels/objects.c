/* The Python types: Matrix, Encoder, Job. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

#include <stddef.h>

#include "decimal.h"

static PyTypeObject *matrix_type, *encoder_type;

int get_floats(PyObject *object, Py_buffer *buffer) {
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS)) return -1;
    if (buffer->len % 4 || (uintptr_t)buffer->buf % 4) {
        PyBuffer_Release(buffer);
        PyErr_SetString(PyExc_ValueError, "this buffer does not hold float32");
        return -1;
    }
    return 0;
}

static void dealloc_memory(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* -- Matrix ----------------------------------------------------------------------------------- */

static int set_blocks(struct matrix_object *self, PyObject *blocks) {
    struct matrix *matrix = &self->matrix;
    PyObject *list = PySequence_Fast(blocks, "blocks are a sequence of buffers");
    if (!list) return -1;
    const Py_ssize_t wanted = (Py_ssize_t)matrix->grid_rows * matrix->grid_cols;
    int bad = PySequence_Fast_GET_SIZE(list) != wanted;
    if (bad) PyErr_Format(PyExc_ValueError, "the grid has %zd blocks, not %zd",
                          PySequence_Fast_GET_SIZE(list), wanted);
    self->buffers = PyMem_Calloc((size_t)wanted + 1, sizeof(Py_buffer));
    matrix->blocks = PyMem_Calloc((size_t)wanted + 1, sizeof(float *));
    if (!self->buffers || !matrix->blocks) PyErr_NoMemory(), bad = 1;
    for (Py_ssize_t i = 0; !bad && i < wanted; i++) {
        bad = get_floats(PySequence_Fast_GET_ITEM(list, i), &self->buffers[i]);
        if (bad) break;
        self->count = i + 1;
        matrix->blocks[i] = self->buffers[i].buf;
        if (self->buffers[i].len != (Py_ssize_t)matrix->side * matrix->side * 4) {
            PyErr_Format(PyExc_ValueError, "block %zd has %zd bytes", i, self->buffers[i].len);
            bad = 1;
        }
    }
    Py_DECREF(list);
    return bad ? -1 : 0;
}

static PyObject *new_matrix(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    static char *keywords[] = {"blocks", "rows", "cols", "side", NULL};
    PyObject *blocks;
    int rows, cols, side;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "Oiii", keywords, &blocks, &rows, &cols, &side))
        return NULL;
    if (rows < 1 || cols < 1 || side < 32 || side > 256 || (side & (side - 1))) {
        PyErr_Format(PyExc_ValueError, "a grid of %d x %d in blocks of %d", rows, cols, side);
        return NULL;
    }
    struct matrix_object *self = (struct matrix_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->matrix = (struct matrix){rows, cols, side, (rows + side - 1) / side,
                                   (cols + side - 1) / side, NULL};
    if (set_blocks(self, blocks)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void free_matrix(PyObject *object) {
    struct matrix_object *self = (struct matrix_object *)object;
    for (Py_ssize_t i = 0; i < self->count; i++) PyBuffer_Release(&self->buffers[i]);
    PyMem_Free(self->buffers);
    PyMem_Free(self->matrix.blocks);
    dealloc_memory(object);
}

struct matrix *matrix_in(PyObject *object) {
    if (!PyObject_TypeCheck(object, matrix_type)) {
        PyErr_Format(PyExc_TypeError, "a Matrix is wanted, not %s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    return &((struct matrix_object *)object)->matrix;
}

static PyType_Slot matrix_slots[] = {
    {Py_tp_doc, "Matrix(blocks, rows, cols, side): a grid of tiles, viewed where they lie."},
    {Py_tp_new, new_matrix},
    {Py_tp_dealloc, free_matrix},
    {0, NULL},
};
static PyType_Spec matrix_spec = {"pageformer.cpu_backend._kernels.Matrix",
                                  sizeof(struct matrix_object), 0, Py_TPFLAGS_DEFAULT, matrix_slots};

/* -- Encoder ---------------------------------------------------------------------------------- */

struct encoder_object {
    PyObject_HEAD
    struct encoder encoder;
    PyObject *held; /* a list of all that `encoder` points into: matrices, copies of vectors */
};

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

/* Panels of bfloat16 (panels.c) that lie in a buffer; the encoder holds the buffer. */
static const uint16_t *panels_in(struct encoder_object *self, PyObject *object, int rows, int cols) {
    PyObject *view = PyMemoryView_FromObject(object);
    if (!view || PyList_Append(self->held, view)) {
        Py_XDECREF(view);
        return NULL;
    }
    Py_DECREF(view); /* the list holds it */
    const Py_buffer *buffer = PyMemoryView_GET_BUFFER(view);
    if (rows % 32 == 0 && cols % 32 == 0 && buffer->len == (Py_ssize_t)rows * cols * 2)
        return buffer->buf;
    PyErr_Format(PyExc_ValueError, "panels of %zd bytes for a matrix of %d x %d", buffer->len, rows,
                 cols);
    return NULL;
}

static int set_linear(struct encoder_object *self, struct linear *linear, PyObject *parts, int rows,
                      int cols) {
    PyObject *weight, *bias, *panels;
    if (!PyArg_ParseTuple(parts, "OOO", &weight, &bias, &panels)) return -1;
    linear->weight = held_matrix(self, weight, rows, cols);
    linear->bias = linear->weight ? vector_in(self, bias, cols) : NULL;
    if (!linear->bias || !self->encoder.narrow) return linear->bias ? 0 : -1;
    linear->panels = panels_in(self, panels, rows, cols);
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
    PyObject *q, *k, *v, *output, *norm, *up, *down, *last;
    if (!PyArg_ParseTuple(parts, "OOOOOOOO", &q, &k, &v, &output, &norm, &up, &down, &last))
        return -1;
    return set_linear(self, &layer->query, q, h, h) || set_linear(self, &layer->key, k, h, h) ||
                   set_linear(self, &layer->value, v, h, h) ||
                   set_linear(self, &layer->output, output, h, h) ||
                   set_norm(self, &layer->attention_norm, norm) ||
                   set_linear(self, &layer->up, up, h, inner) ||
                   set_linear(self, &layer->down, down, inner, h) ||
                   set_norm(self, &layer->feed_forward_norm, last)
               ? -1
               : 0;
}

static int set_tables(struct encoder_object *self, PyObject *tables) {
    struct encoder *encoder = &self->encoder;
    encoder->table_count = (int)PyTuple_GET_SIZE(tables);
    if (encoder->table_count < 2 || encoder->table_count > MOST_TABLES) {
        PyErr_SetString(PyExc_ValueError, "tables are: words, positions, and maybe token types");
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

static int check_sizes(const struct encoder *encoder, int positions) {
    const int first = encoder->padding_id < 0 ? 0 : encoder->padding_id + 1;
    if (encoder->heads > 0 && encoder->hidden > 0 && encoder->hidden % encoder->heads == 0 &&
        encoder->intermediate > 0 && encoder->longest > 0 && encoder->longest + first <= positions)
        return 0;
    PyErr_SetString(PyExc_ValueError, "sizes of this encoder do not go together");
    return -1;
}

static PyObject *new_encoder(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    static char *keywords[] = {"variant", "hidden", "heads", "intermediate", "activation", "eps",
                               "padding_id", "longest", "first_token", "tables", "norm", "layers",
                               "relative", "narrow", NULL};
    struct encoder_object *self = (struct encoder_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    struct encoder *e = &self->encoder;
    const char *variant, *activation;
    PyObject *tables, *norm, *layers, *relative;
    int good = PyArg_ParseTupleAndKeywords(
        arguments, names, "siiisfiipO!OO!Op", keywords, &variant, &e->hidden, &e->heads,
        &e->intermediate, &activation, &e->eps, &e->padding_id, &e->longest, &e->first_token,
        &PyTuple_Type, &tables, &norm, &PyTuple_Type, &layers, &relative,
        &e->narrow);
    self->held = PyList_New(0);
    good = good && self->held && (e->variant = variant_named(variant)) &&
           !set_activation(e, activation) && !set_tables(self, tables) &&
           !check_sizes(e, e->tables[1]->rows) && !set_norm(self, &e->embedding_norm, norm) &&
           !set_layers(self, layers);
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
    {Py_tp_doc, "Encoder(...): a post-norm encoder, ready to run."},
    {Py_tp_new, new_encoder},
    {Py_tp_dealloc, free_encoder},
    {0, NULL},
};
static PyType_Spec encoder_spec = {"pageformer.cpu_backend._kernels.Encoder",
                                   sizeof(struct encoder_object), 0, Py_TPFLAGS_DEFAULT,
                                   encoder_slots};

/* -- Job -------------------------------------------------------------------------------------- */

struct job_object {
    PyObject_HEAD
    struct job *job;
    struct encoder_object *encoder;
    PyObject *answer; /* bytes, when all is computed */
    PyObject *spent;  /* a dict, then: step -> seconds */
};

static PyObject *new_job(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    static char *keywords[] = {"encoder", "threads", "states", NULL};
    PyObject *encoder;
    int threads = 0, states = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "O!|ip", keywords, encoder_type, &encoder,
                                     &threads, &states))
        return NULL;
    struct job_object *self = (struct job_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    Py_INCREF(encoder);
    self->encoder = (struct encoder_object *)encoder;
    self->job = job_begin(&self->encoder->encoder, threads, states);
    if (self->job) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void free_job(PyObject *object) {
    struct job_object *self = (struct job_object *)object;
    if (self->job) job_end(self->job);
    Py_XDECREF(self->encoder);
    Py_XDECREF(self->answer);
    Py_XDECREF(self->spent);
    dealloc_memory(object);
}

static int read_ids(const struct encoder *encoder, PyObject *list, int32_t *ids) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        long id = PyLong_AsLong(PyList_GET_ITEM(list, i));
        if (id == -1 && PyErr_Occurred()) return -1;
        if (id < 0 || id >= encoder->tables[0]->rows) {
            PyErr_Format(PyExc_IndexError, "token %ld is not in the vocabulary", id);
            return -1;
        }
        ids[i] = (int32_t)id;
    }
    return 0;
}

static PyObject *add(PyObject *object, PyObject *list) {
    struct job_object *self = (struct job_object *)object;
    if (!PyList_Check(list) || !self->job) return PyErr_Format(PyExc_TypeError, "ids are a list");
    const Py_ssize_t count = PyList_GET_SIZE(list);
    if (count > self->encoder->encoder.longest)
        return PyErr_Format(PyExc_ValueError, "%zd tokens are more than the model takes", count);
    int32_t *ids = PyMem_Malloc((size_t)(count + 1) * sizeof *ids);
    if (!ids) return PyErr_NoMemory();
    int bad = read_ids(&self->encoder->encoder, list, ids);
    if (!bad && !job_add(self->job, ids, (int)count)) PyErr_NoMemory(), bad = 1;
    PyMem_Free(ids);
    if (bad) return NULL;
    Py_RETURN_NONE;
}

static PyObject *seconds_by_step(const struct job *job) {
    PyObject *spent = PyDict_New();
    for (int step = 0; spent && step < JOB_STEPS; step++) {
        double seconds;
        const char *name = job_spent(job, step, &seconds);
        PyObject *value = PyFloat_FromDouble(seconds);
        if (!value || PyDict_SetItemString(spent, name, value)) Py_CLEAR(spent);
        Py_XDECREF(value);
    }
    return spent;
}

/* Compute; True when all is done, False when somebody wants to be heard first. */
static PyObject *run_job(PyObject *object, PyObject *none) {
    (void)none;
    struct job_object *self = (struct job_object *)object;
    enum progress progress;
    if (self->answer) Py_RETURN_TRUE;
    if (!self->job) return PyErr_Format(PyExc_RuntimeError, "this job was closed");
    Py_BEGIN_ALLOW_THREADS
    progress = job_run(self->job);
    Py_END_ALLOW_THREADS
    if (progress == NO_MEMORY) return PyErr_NoMemory();
    if (progress == STOPPED) Py_RETURN_FALSE;
    const size_t bytes = job_rows(self->job) * (size_t)self->encoder->encoder.hidden * 4;
    self->spent = seconds_by_step(self->job);
    self->answer = self->spent ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes) : NULL;
    if (!self->answer) return NULL;
    job_copy(self->job, (float *)PyBytes_AS_STRING(self->answer));
    job_end(self->job);
    self->job = NULL;
    Py_RETURN_TRUE;
}

static PyObject *close_job(PyObject *object, PyObject *none) {
    (void)none;
    struct job_object *self = (struct job_object *)object;
    if (self->job) job_end(self->job);
    self->job = NULL;
    Py_RETURN_NONE;
}

PyObject *text_of_vector(const float *x, int count) {
    char *text = PyMem_Malloc((size_t)count * LONGEST_FLOAT + 2);
    if (!text) return PyErr_NoMemory();
    PyObject *string = PyUnicode_DecodeASCII(text, write_vector(text, x, count) - text, NULL);
    PyMem_Free(text);
    return string;
}

/* Texts of the vectors, cut to their first `dimensions` (0: all) and scaled to length one. */
static PyObject *texts(PyObject *object, PyObject *arguments) {
    struct job_object *self = (struct job_object *)object;
    const int hidden = self->encoder->encoder.hidden;
    int dimensions, normalized;
    if (!PyArg_ParseTuple(arguments, "ip", &dimensions, &normalized)) return NULL;
    if (!self->answer) return PyErr_Format(PyExc_RuntimeError, "run() has not finished");
    if (dimensions < 1 || dimensions > hidden) dimensions = hidden;
    const float *x = (const float *)PyBytes_AS_STRING(self->answer);
    const Py_ssize_t rows = PyBytes_GET_SIZE(self->answer) / 4 / hidden;
    float *scaled = PyMem_Malloc((size_t)dimensions * sizeof(float));
    PyObject *list = scaled ? PyList_New(rows) : PyErr_NoMemory();
    for (Py_ssize_t i = 0; list && i < rows; i++, x += hidden) {
        if (normalized) self->encoder->encoder.variant->normalize(x, scaled, dimensions);
        PyObject *text = text_of_vector(normalized ? scaled : x, dimensions);
        if (text) PyList_SET_ITEM(list, i, text);
        else Py_CLEAR(list);
    }
    PyMem_Free(scaled);
    return list;
}

static PyObject *answer_of(PyObject *object, void *none) {
    (void)none;
    PyObject *answer = ((struct job_object *)object)->answer;
    return Py_NewRef(answer ? answer : Py_None);
}

static PyObject *spent_of(PyObject *object, void *none) {
    (void)none;
    PyObject *spent = ((struct job_object *)object)->spent;
    return Py_NewRef(spent ? spent : Py_None);
}

static PyMethodDef job_methods[] = {
    {"add", add, METH_O, "Hand over the token ids of one more sequence; threads may begin."},
    {"run", run_job, METH_NOARGS, "Compute; False: stopped before the end, call again."},
    {"close", close_job, METH_NOARGS, "Give up; whoever computes leaves."},
    {"texts", texts, METH_VARARGS, "texts(dimensions, normalized): the vectors as text."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef job_attributes[] = {
    {"answer", answer_of, NULL, "float32 [sequences or tokens, hidden], when run is done.", NULL},
    {"spent", spent_of, NULL, "Seconds by step, of all threads together, when run is done.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot job_slots[] = {
    {Py_tp_doc, "Job(encoder, threads=0, states=False): sequences on their way to vectors."},
    {Py_tp_new, new_job},
    {Py_tp_dealloc, free_job},
    {Py_tp_methods, job_methods},
    {Py_tp_getset, job_attributes},
    {0, NULL},
};
static PyType_Spec job_spec = {"pageformer.cpu_backend._kernels.Job", sizeof(struct job_object), 0,
                               Py_TPFLAGS_DEFAULT, job_slots};

int add_types(PyObject *module) {
    PyTypeObject *job_type;
    matrix_type = (PyTypeObject *)PyType_FromSpec(&matrix_spec);
    encoder_type = (PyTypeObject *)PyType_FromSpec(&encoder_spec);
    job_type = (PyTypeObject *)PyType_FromSpec(&job_spec);
    if (!matrix_type || !encoder_type || !job_type) return -1;
    return PyModule_AddType(module, matrix_type) || PyModule_AddType(module, encoder_type) ||
                   PyModule_AddType(module, job_type)
               ? -1
               : 0;
}
