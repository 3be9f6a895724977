/* WordPiece for Python: a table of pieces as bytes, and the ids of a text. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "objects.h"
#include "wordpiece.h"

struct piece {
    const char *text;
    Py_ssize_t length;
    int goes_on;
    long id;
};

/* Read a piece of the vocabulary; 0: it does not occur in plain text. */
static int read_piece(PyObject *text, PyObject *id, struct piece *piece) {
    if (!PyUnicode_Check(text) || !PyUnicode_IS_ASCII(text)) return 0;
    piece->text = PyUnicode_AsUTF8AndSize(text, &piece->length);
    piece->goes_on = piece->length > 2 && !memcmp(piece->text, "##", 2);
    piece->text += 2 * piece->goes_on;
    piece->length -= 2 * piece->goes_on;
    piece->id = PyLong_AsLong(id);
    return piece->length > 0 && piece->length <= LONGEST_WORD;
}

static void measure(PyObject *vocabulary, uint32_t *slots, uint32_t *bytes) {
    PyObject *text, *id;
    struct piece piece;
    uint32_t count = 0;
    *bytes = 0;
    for (Py_ssize_t at = 0; PyDict_Next(vocabulary, &at, &text, &id);)
        if (read_piece(text, id, &piece)) *bytes += (uint32_t)piece.length, count++;
    for (*slots = 1; *slots < 2 * count + 2;) *slots *= 2;
    *bytes = (*bytes + 3) / 4 * 4 + (uint32_t)sizeof(struct table_head) +
             *slots * (uint32_t)sizeof(struct table_slot);
}

static void fill(PyObject *vocabulary, struct table_head *table) {
    PyObject *text, *id;
    struct piece piece;
    uint32_t at = (uint32_t)(sizeof *table + table->slots * sizeof(struct table_slot));
    for (Py_ssize_t next = 0; PyDict_Next(vocabulary, &next, &text, &id);) {
        if (!read_piece(text, id, &piece)) continue;
        memcpy((char *)table + at, piece.text, (size_t)piece.length);
        add_piece(table, at, (uint32_t)piece.length, piece.goes_on, (int32_t)piece.id);
        at += (uint32_t)piece.length;
    }
}

static int read_special(PyObject *ids, int32_t *special, uint32_t *count) {
    if (PyList_GET_SIZE(ids) > MOST_SPECIAL) {
        PyErr_Format(PyExc_ValueError, "at most %d special tokens stand on a side", MOST_SPECIAL);
        return -1;
    }
    *count = (uint32_t)PyList_GET_SIZE(ids);
    for (uint32_t i = 0; i < *count; i++)
        special[i] = (int32_t)PyLong_AsLong(PyList_GET_ITEM(ids, i));
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *word_table(PyObject *module, PyObject *arguments) {
    (void)module;
    struct table_head head = {.mark = TABLE_MARK};
    PyObject *vocabulary, *before, *after;
    const char *refused;
    int unknown, lowercase, longest_word;
    if (!PyArg_ParseTuple(arguments, "O!ipiO!O!s", &PyDict_Type, &vocabulary, &unknown, &lowercase,
                          &longest_word, &PyList_Type, &before, &PyList_Type, &after, &refused) ||
        read_special(before, head.special, &head.before) ||
        read_special(after, head.special + MOST_SPECIAL, &head.after))
        return NULL;
    if (longest_word < 1 || longest_word > LONGEST_WORD)
        return PyErr_Format(PyExc_ValueError, "words have at most %d characters", LONGEST_WORD);
    head.unknown = unknown;
    head.lowercase = (uint32_t)lowercase;
    head.longest_word = (uint32_t)longest_word;
    for (; *refused; refused++)
        head.refused[(*refused & 127) >> 5] |= UINT32_C(1) << (*refused & 31);
    measure(vocabulary, &head.slots, &head.bytes);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)head.bytes);
    if (!bytes) return NULL;
    struct table_head *table = (struct table_head *)PyBytes_AS_STRING(bytes);
    memset(table, 0, head.bytes);
    *table = head;
    fill(vocabulary, table);
    if (!PyErr_Occurred()) return bytes;
    Py_DECREF(bytes);
    return NULL;
}

/* The list of special tokens, ids and special tokens. */
static PyObject *list_of(const struct table_head *table, const int32_t *ids, int count) {
    const int before = (int)table->before, after = (int)table->after;
    PyObject *list = PyList_New(before + count + after);
    for (int i = 0; list && i < before + count + after; i++) {
        const int32_t id = i < before           ? table->special[i]
                           : i < before + count ? ids[i - before]
                                                : table->special[MOST_SPECIAL + i - before - count];
        PyObject *number = PyLong_FromLong(id);
        if (number) PyList_SET_ITEM(list, i, number);
        else Py_CLEAR(list);
    }
    return list;
}

/* The ids of a text and whether it was cut to `limit`; None when it is not plain. */
static PyObject *answer(const struct table_head *table, PyObject *text, int limit) {
    const int room = limit - (int)(table->before + table->after);
    if (room < 0 || !PyUnicode_IS_ASCII(text)) Py_RETURN_NONE;
    int32_t *ids = PyMem_Malloc(((size_t)room + 1) * sizeof *ids);
    if (!ids) return PyErr_NoMemory();
    const int count = find_pieces(table, PyUnicode_DATA(text), (size_t)PyUnicode_GET_LENGTH(text), ids,
                                  room + 1);
    PyObject *list = count < 0 ? NULL : list_of(table, ids, count > room ? room : count);
    PyMem_Free(ids);
    if (count < 0) Py_RETURN_NONE;
    return list ? Py_BuildValue("NN", list, PyBool_FromLong(count > room)) : NULL;
}

PyObject *plain_ids(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer buffer;
    PyObject *text;
    int limit;
    if (!PyArg_ParseTuple(arguments, "y*Ui", &buffer, &text, &limit)) return NULL;
    const struct table_head *table = buffer.buf;
    PyObject *found = is_table(table, (size_t)buffer.len)
                          ? answer(table, text, limit)
                          : PyErr_Format(PyExc_ValueError, "these bytes are no table of pieces");
    PyBuffer_Release(&buffer);
    return found;
}
