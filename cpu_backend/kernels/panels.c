/* Panels of weights, in the order that matmul_bf16.c and matmul_int8.c read them: made once, kept in
 * a file. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"

static const float *at(const struct matrix *m, int row, int col) {
    const float *block = m->blocks[row / m->side * m->grid_cols + col / m->side];
    return block + (ptrdiff_t)(row % m->side) * m->side + col % m->side;
}

/* -- bfloat16 --------------------------------------------------------------------------------- */

static uint16_t narrow(float x) { /* to even; a weight is never a NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Rows in pairs, column by column. */
static void write_halves(const struct matrix *m, int col, void *panel) {
    uint16_t *to = panel;
    for (int k = 0; k < m->rows; k += 2) {
        const float *even = at(m, k, col), *odd = at(m, k + 1, col);
        for (int c = 0; c < PANEL_COLUMNS; c++) {
            *to++ = narrow(even[c]);
            *to++ = narrow(odd[c]);
        }
    }
}

/* -- int8 ------------------------------------------------------------------------------------- */

static float rounded(float x) { return x + 12582912.0f - 12582912.0f; } /* to a whole number */

static float steps_of(float x, float step) {
    const float steps = rounded(x / step);
    return steps > 127 ? 127 : steps < -127 ? -127 : steps;
}

/* Try to cut the largest weights of each column off, by up to a quarter: fewer weights are far off,
 * the others nearer. What leaves the least error in squares is kept. */
static void choose_steps(const struct matrix *m, int col, float *step) {
    enum { TRIALS = 7 };
    float largest[PANEL_COLUMNS] = {0}, least[PANEL_COLUMNS];
    for (int k = 0; k < m->rows; k++)
        for (int c = 0; c < PANEL_COLUMNS; c++) {
            const float x = at(m, k, col)[c], size = x < 0 ? -x : x;
            if (size > largest[c]) largest[c] = size;
        }
    for (int trial = 0; trial < TRIALS; trial++) {
        float tried[PANEL_COLUMNS], error[PANEL_COLUMNS] = {0};
        for (int c = 0; c < PANEL_COLUMNS; c++)
            tried[c] = largest[c] > 0 ? largest[c] * (1 - 0.04f * (float)trial) / 127 : 1;
        for (int k = 0; k < m->rows; k++) {
            const float *row = at(m, k, col);
            for (int c = 0; c < PANEL_COLUMNS; c++) {
                const float off = row[c] - steps_of(row[c], tried[c]) * tried[c];
                error[c] += off * off;
            }
        }
        for (int c = 0; c < PANEL_COLUMNS; c++)
            if (!trial || error[c] < least[c]) least[c] = error[c], step[c] = tried[c];
    }
}

/* Rows in fours, column by column; then the steps, and the sums of each column. */
static void write_bytes(const struct matrix *m, int col, void *panel) {
    struct panel_end end = {.sum = {0}};
    int8_t *to = panel;
    choose_steps(m, col, end.step);
    for (int k = 0; k < m->rows; k += 4)
        for (int c = 0; c < PANEL_COLUMNS; c++)
            for (int i = 0; i < 4; i++) {
                *to = (int8_t)steps_of(at(m, k + i, col)[c], end.step[c]);
                end.sum[c] += *to++;
            }
    memcpy(to, &end, sizeof end);
}

PyObject *panels(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *object;
    int form;
    if (!PyArg_ParseTuple(arguments, "Oi", &object, &form)) return NULL;
    const struct matrix *m = matrix_in(object);
    if (!m) return NULL;
    if (form != BFLOAT16 && form != INT8)
        return PyErr_Format(PyExc_ValueError, "no panels have form %d", form);
    if (m->rows % 32 || m->cols % 32)
        return PyErr_Format(PyExc_ValueError, "%d x %d are not multiples of 32", m->rows, m->cols);
    const size_t each = panel_bytes((enum form)form, m->rows);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)each * (m->cols / PANEL_COLUMNS));
    if (!bytes) return NULL;
    char *to = PyBytes_AS_STRING(bytes);
    for (int col = 0; col < m->cols; col += PANEL_COLUMNS, to += each)
        (form == INT8 ? write_bytes : write_halves)(m, col, to);
    return bytes;
}
