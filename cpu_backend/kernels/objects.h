/* What the files that speak Python's C interface share. */
#ifndef PAGEFORMER_OBJECTS_H
#define PAGEFORMER_OBJECTS_H

#include <Python.h>

#include "encoder.h"

/* A matrix and the buffers that its blocks lie in. */
struct matrix_object {
    PyObject_HEAD
    struct matrix matrix;
    Py_buffer *buffers;
    Py_ssize_t count;
};

/* The Python types, to be added to the module; 0, or -1 with an exception. */
int add_types(PyObject *module);

/* The matrix in a Matrix; NULL with an exception when it is something else. */
struct matrix *matrix_in(PyObject *object);

/* The variant of that name; NULL with an exception. */
const struct variant *variant_named(const char *name);

/* Hold a contiguous buffer of float32; -1 with an exception. */
int get_floats(PyObject *object, Py_buffer *buffer);

/* Panels of bfloat16, of a Matrix: panels.c. */
PyObject *panels(PyObject *module, PyObject *matrix);

PyObject *text_of_vector(const float *x, int count);

/* Single operators: operators.c. */
PyObject *linear(PyObject *module, PyObject *arguments);
PyObject *attend(PyObject *module, PyObject *arguments);
PyObject *layer_norm(PyObject *module, PyObject *arguments);
PyObject *pool(PyObject *module, PyObject *arguments);
PyObject *normalize(PyObject *module, PyObject *arguments);

#endif
