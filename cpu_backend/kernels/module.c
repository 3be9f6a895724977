/* The Python module: buffers in, buffers and texts out. Knows no NumPy; whatever has the buffer
 * protocol will do. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <dlfcn.h>

#include "decimal.h"
#include "encoder.h"
#include "objects.h"
#include "threads.h"

static volatile int own_flag;

const struct variant *variant_named(const char *name) {
    const struct variant *const *found = available_variants();
    for (; *found; found++)
        if (!strcmp((*found)->name, name)) return *found;
    PyErr_Format(PyExc_ValueError, "this machine has no kernels named '%s'", name);
    return NULL;
}

static PyObject *variants(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    PyObject *names = PyList_New(0);
    for (const struct variant *const *found = available_variants(); names && *found; found++) {
        PyObject *name = PyUnicode_FromString((*found)->name);
        if (!name || PyList_Append(names, name)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

/* Stop computing when PostgreSQL has something to tell this process. */
static PyObject *heed_postgres(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    void *flag = dlsym(RTLD_DEFAULT, "InterruptPending");
    interrupt_flag = flag ? (volatile int *)flag : &own_flag;
    return PyBool_FromLong(flag != NULL);
}

static PyObject *interrupt(PyObject *module, PyObject *set) {
    (void)module;
    interrupt_flag = &own_flag;
    own_flag = PyObject_IsTrue(set);
    Py_RETURN_NONE;
}

static PyObject *share(PyObject *module, PyObject *arguments) {
    (void)module;
    static Py_buffer slots; /* held for good: other processes write there */
    Py_buffer given;
    int cores;
    if (!PyArg_ParseTuple(arguments, "w*i", &given, &cores)) return NULL;
    if (slots.obj) PyBuffer_Release(&slots);
    slots = given;
    share_through(slots.buf, (size_t)slots.len, cores);
    Py_RETURN_NONE;
}

static PyObject *vector_text(PyObject *module, PyObject *floats) {
    (void)module;
    Py_buffer buffer;
    if (get_floats(floats, &buffer)) return NULL;
    PyObject *text = text_of_vector(buffer.buf, (int)(buffer.len / 4));
    PyBuffer_Release(&buffer);
    return text;
}

static PyObject *peak(PyObject *module, PyObject *name) {
    (void)module;
    const char *text = PyUnicode_AsUTF8(name);
    const struct variant *variant = text ? variant_named(text) : NULL;
    return variant ? PyFloat_FromDouble(variant->peak()) : NULL;
}

static PyMethodDef methods[] = {
    {"variants", variants, METH_NOARGS, "Name the kernels that this machine can run, best first."},
    {"heed_postgres", heed_postgres, METH_NOARGS,
     "Stop when PostgreSQL's InterruptPending is set; False when there is none to be found."},
    {"interrupt", interrupt, METH_O, "Stop, or go on: for processes that are no PostgreSQL."},
    {"share", share, METH_VARARGS, "Share `cores` out through the slots of a writable buffer."},
    {"panels", panels, METH_VARARGS, "Make panels of a Matrix, in a narrower form."},
    {"panel_product", panel_product, METH_VARARGS, "Compute a product by panels into a buffer."},
    {"peak", peak, METH_O, "Measure a core's float32 operations in a nanosecond."},
    {"vector_text", vector_text, METH_O, "Write float32 as pgvector reads it."},
    {"word_table", word_table, METH_VARARGS, "Make a table of a vocabulary's pieces."},
    {"plain_ids", plain_ids, METH_VARARGS, "plain_ids(table, text, limit): (ids, cut), or None."},
    {"watch", watch, METH_O, "Have the kernel tell of changes in a folder: a descriptor to read."},
    {"linear", linear, METH_VARARGS, "Compute a product into a buffer."},
    {"attention", attend, METH_VARARGS, "Compute attention into a buffer."},
    {"pool", pool, METH_VARARGS, "Average sequences into a buffer."},
    {"normalize", normalize, METH_VARARGS, "Scale rows to length one, into a buffer."},
    {"add_norm", add_norm, METH_VARARGS, "End a sub-layer as tasks have it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "pageformer.cpu_backend._kernels",
    "Compiled kernels that compute on blocks where they lie.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernels(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module || add_matrix(module) || add_encoder(module) || add_job(module) || add_edits(module) ||
        PyModule_AddIntMacro(module, FLOAT32) || PyModule_AddIntMacro(module, BFLOAT16) ||
        PyModule_AddIntMacro(module, INT8)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
