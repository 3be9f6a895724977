/* The Python type Job: token ids in, vectors and their texts out. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

#include "call.h"
#include "decimal.h"
#include "job.h"
#include "objects.h"

struct job_object {
    PyObject_HEAD
    struct job *job;
    struct encoder_object *encoder;
    PyObject *answer; /* bytes, when all is computed */
    PyObject *spent;  /* a dict, then: step -> seconds */
    Py_buffer rows;   /* of an encoder that takes them; read where they are */
    PyObject *sites;  /* or NULL: what tasks edit in them; holds the edits */
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
    if (self->rows.obj) PyBuffer_Release(&self->rows);
    Py_XDECREF(self->sites);
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
    if (!PyList_Check(list) || !self->job || !self->encoder->encoder.table_count)
        return PyErr_Format(PyExc_TypeError, "ids are a list, for an encoder with embeddings");
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

/* Hand over sequences, one after another in `rows`, whose lengths are told. */
static int add_lengths(struct job_object *self, PyObject *lengths) {
    const float *rows = self->rows.buf, *const end = rows + self->rows.len / 4;
    const int hidden = self->encoder->encoder.hidden;
    const Py_ssize_t sequences = PyList_GET_SIZE(lengths);
    Py_ssize_t i = 0;
    for (; i < sequences; i++) {
        const long count = PyLong_AsLong(PyList_GET_ITEM(lengths, i));
        if (count == -1 && PyErr_Occurred()) return -1;
        if (count < 1 || count > (end - rows) / hidden) break;
        if (!job_add_rows(self->job, rows, (int)count)) {
            PyErr_NoMemory();
            return -1;
        }
        rows += count * hidden;
    }
    if (i == sequences && rows == end) return 0;
    PyErr_SetString(PyExc_ValueError, "the lengths do not go with the rows");
    return -1;
}

/* Take over what tasks edit at one site: (layer, site, [(start, stop, edits), ...]). */
static int set_site(struct group_edits *edits, PyObject *entry, int layers, int rows) {
    PyObject *list;
    int layer, site;
    if (!PyArg_ParseTuple(entry, "iiO!", &layer, &site, &PyList_Type, &list)) return -1;
    if (layer < 0 || layer >= layers || site < 0 || site >= SITES) {
        PyErr_Format(PyExc_ValueError, "there is no site %d in layer %d", site, layer);
        return -1;
    }
    struct edited_run *runs = malloc((2 * (size_t)PyList_GET_SIZE(list) + 1) * sizeof *runs);
    if (!runs) PyErr_NoMemory();
    const int count =
        runs ? fill_runs(runs, list, rows, site < ATTENTION_END ? linear_edits_of : end_edits_of) : -1;
    if (count < 0) free(runs);
    else edit_site(edits, layer, (enum site_name)site, runs, count);
    return count < 0 ? -1 : 0;
}

/* Rows of a job that tasks edit are one group. */
static int add_edits_of(struct job_object *self, PyObject *sites) {
    const struct encoder *encoder = &self->encoder->encoder;
    const int rows = (int)(self->rows.len / 4 / encoder->hidden);
    if (!encoder->edits) {
        PyErr_SetString(PyExc_TypeError, "tasks edit post-norm layers alone");
        return -1;
    }
    struct group_edits *edits = new_edits(encoder->layer_count, rows);
    int bad = !edits;
    for (Py_ssize_t i = 0; !bad && i < PyList_GET_SIZE(sites); i++)
        bad = set_site(edits, PyList_GET_ITEM(sites, i), encoder->layer_count, rows);
    if (bad) free_edits(edits);
    else bad = !job_add_edited(self->job, edits, rows);
    if (bad && !PyErr_Occurred()) PyErr_NoMemory();
    self->sites = Py_NewRef(sites);
    return bad ? -1 : 0;
}

static PyObject *add_rows(PyObject *object, PyObject *arguments) {
    struct job_object *self = (struct job_object *)object;
    PyObject *floats, *lengths, *sites = NULL;
    if (!PyArg_ParseTuple(arguments, "OO!|O!", &floats, &PyList_Type, &lengths, &PyList_Type, &sites))
        return NULL;
    if (!self->job || self->rows.obj || self->encoder->encoder.table_count)
        return PyErr_Format(PyExc_TypeError, "rows are given once, to layers alone");
    if (get_floats(floats, &self->rows)) return NULL;
    if (sites && PyList_GET_SIZE(sites) && add_edits_of(self, sites)) return NULL;
    if (add_lengths(self, lengths)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *seconds_by_step(const struct job *job) {
    PyObject *spent = PyDict_New();
    for (int step = 0; spent && step < JOB_STEPS; step++) {
        double seconds;
        const char *name = job_spent(job, (enum step)step, &seconds);
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

/* Texts of the vectors from `start` to `stop`, cut to their first `dimensions` (0: all) and scaled to
 * length one. */
static PyObject *texts(PyObject *object, PyObject *arguments) {
    struct job_object *self = (struct job_object *)object;
    const int hidden = self->encoder->encoder.hidden;
    int dimensions, normalized;
    Py_ssize_t start = 0, stop = PY_SSIZE_T_MAX;
    if (!PyArg_ParseTuple(arguments, "ip|nn", &dimensions, &normalized, &start, &stop)) return NULL;
    if (!self->answer) return PyErr_Format(PyExc_RuntimeError, "run() has not finished");
    if (dimensions < 1 || dimensions > hidden) dimensions = hidden;
    const Py_ssize_t all = PyBytes_GET_SIZE(self->answer) / 4 / hidden;
    if (stop > all) stop = all;
    if (start < 0 || start > stop) start = stop;
    const float *x = (const float *)PyBytes_AS_STRING(self->answer) + start * hidden;
    const Py_ssize_t rows = stop - start;
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
    {"add_rows", add_rows, METH_VARARGS, "add_rows(floats, lengths, sites=[]): sequences of rows, in order, as tasks edit them."},
    {"run", run_job, METH_NOARGS, "Compute; False: stopped before the end, call again."},
    {"close", close_job, METH_NOARGS, "Give up; whoever computes leaves."},
    {"texts", texts, METH_VARARGS, "texts(dimensions, normalized, start, stop): those vectors as text; all."},
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

int add_job(PyObject *module) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&job_spec);
    return type ? PyModule_AddType(module, type) : -1;
}
