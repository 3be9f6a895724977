/* The Python type Matrix, and what all types here need. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

static PyTypeObject *matrix_type;

int get_floats(PyObject *object, Py_buffer *buffer) {
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS)) return -1;
    if (buffer->len % 4 || (uintptr_t)buffer->buf % 4) {
        PyBuffer_Release(buffer);
        PyErr_SetString(PyExc_ValueError, "this buffer does not hold float32");
        return -1;
    }
    return 0;
}

void dealloc_memory(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

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

int add_matrix(PyObject *module) {
    matrix_type = (PyTypeObject *)PyType_FromSpec(&matrix_spec);
    return matrix_type ? PyModule_AddType(module, matrix_type) : -1;
}
