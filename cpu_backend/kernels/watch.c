/* A folder whose changes the kernel tells of, so that nobody need look at each file to learn that none
 * changed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>

#include "objects.h"

#if defined(__linux__)
#include <sys/inotify.h>
#include <unistd.h>

static int watch_folder(const char *path) {
    const uint32_t changes = IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVE | IN_DELETE_SELF |
                             IN_MOVE_SELF | IN_ONLYDIR;
    const int descriptor = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (descriptor < 0 || inotify_add_watch(descriptor, path, changes) >= 0) return descriptor;
    const int error = errno;
    close(descriptor);
    errno = error;
    return -1;
}
#else
static int watch_folder(const char *path) {
    (void)path;
    errno = ENOSYS;
    return -1;
}
#endif

PyObject *watch(PyObject *module, PyObject *path) {
    (void)module;
    const char *name = PyUnicode_AsUTF8(path);
    if (!name) return NULL;
    const int descriptor = watch_folder(name);
    return descriptor < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(descriptor);
}
