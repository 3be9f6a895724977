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

/* An encoder, and a list of all that it points into: matrices, copies of vectors. */
struct encoder_object {
    PyObject_HEAD
    struct encoder encoder;
    PyObject *held;
};

extern PyTypeObject *encoder_type;

/* Add the Python types to the module; 0, or -1 with an exception. */
int add_matrix(PyObject *module);
int add_encoder(PyObject *module);
int add_job(PyObject *module);

/* Give an object's own memory back, the last act of its type's tp_dealloc. */
void dealloc_memory(PyObject *self);

/* The matrix in a Matrix; NULL with an exception when it is something else. */
struct matrix *matrix_in(PyObject *object);

/* The variant of that name; NULL with an exception. */
const struct variant *variant_named(const char *name);

/* Hold a contiguous buffer of float32; -1 with an exception. */
int get_floats(PyObject *object, Py_buffer *buffer);

/* panels(matrix, form), of bfloat16 or int8: panels.c. */
PyObject *panels(PyObject *module, PyObject *arguments);

/* One product by panels: panel_operator.c. */
PyObject *panel_product(PyObject *module, PyObject *arguments);

/* Plain text to ids: wordpiece_object.c. */
PyObject *word_table(PyObject *module, PyObject *arguments);
PyObject *plain_ids(PyObject *module, PyObject *arguments);

/* Told of changes in a folder: watch.c. */
PyObject *watch(PyObject *module, PyObject *path);

PyObject *text_of_vector(const float *x, int count);

/* Single operators: operators.c. */
PyObject *attend(PyObject *module, PyObject *arguments);
PyObject *pool(PyObject *module, PyObject *arguments);
PyObject *normalize(PyObject *module, PyObject *arguments);

/* What tasks change: edits_objects.c, edited.c. */
int add_edits(PyObject *module);
const void *linear_edits_of(PyObject *object);
const void *end_edits_of(PyObject *object);
PyObject *linear(PyObject *module, PyObject *arguments);
PyObject *add_norm(PyObject *module, PyObject *arguments);

#endif
