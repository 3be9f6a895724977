/* Weights in bfloat16, in the order that matmul_bf16.c reads them: made once, kept in a file. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

static uint16_t narrow(float x) { /* to even; a weight is never a NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Rows k and k + 1 of one panel, column by column. */
static void interleave(const float *even, const float *odd, uint16_t *to) {
    for (int c = 0; c < PANEL_COLUMNS; c++) {
        to[2 * c] = narrow(even[c]);
        to[2 * c + 1] = narrow(odd[c]);
    }
}

static const float *at(const struct matrix *m, int row, int col) {
    const float *block = m->blocks[row / m->side * m->grid_cols + col / m->side];
    return block + (ptrdiff_t)(row % m->side) * m->side + col % m->side;
}

PyObject *panels(PyObject *module, PyObject *object) {
    (void)module;
    const struct matrix *m = matrix_in(object);
    if (!m) return NULL;
    if (m->rows % 32 || m->cols % 32)
        return PyErr_Format(PyExc_ValueError, "%d x %d are not multiples of 32", m->rows, m->cols);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m->rows * m->cols * 2);
    if (!bytes) return NULL;
    uint16_t *to = (uint16_t *)PyBytes_AS_STRING(bytes);
    for (int col = 0; col < m->cols; col += PANEL_COLUMNS)
        for (int k = 0; k < m->rows; k += 2, to += 2 * PANEL_COLUMNS)
            interleave(at(m, k, col), at(m, k + 1, col), to);
    return bytes;
}
