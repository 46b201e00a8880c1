/* One start of a job's process, without a copy of the supervisor.
 *
 * clone3(CLONE_VFORK | CLONE_VM): the child uses our memory, on a stack of its own, until it has executed; we sleep
 * meanwhile. So it costs what the kernel costs, whatever our size, the user and the cgroup.
 *
 * What the child may do, by which it is safe:
 * - It makes system calls and nothing else: no libc, no allocation, no errno. It writes to its stack and to `report`.
 * - As root it is nobody else's to signal. With the job's uid it is the job's user's, so that comes last: directories
 *   and the PATH are looked at by the file system's ids (setfsuid), and only exec is left once setresuid was called.
 * - A timer of its own kills it after WITHIN_MS; the kernel takes the timer away in exec, at the point from which there
 *   is no way back, so it can hold up nobody and hit no job. Even a stopped one (SIGSTOP) is killed.
 * - A signal by its handler ends it alone. By default action a core would be written, and before Linux 5.16 that ended
 *   all who share the memory. Handlers are gone with exec, so what is left is the default.
 * - setresuid makes the memory undumpable, so nobody with the job's uid can trace it or read it: not by
 *   fs.suid_dumpable 1, where `runner.supervisor.starting.direct` leaves this way alone.
 *
 * Sources: clone(2), vfork(2), credentials(7), timer_create(2), syscall(2) for the calling conventions; kernel/signal.c
 * and fs/exec.c for what exec takes away.
 */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define WITHIN_MS 50
#define STACK_BYTES (128 << 10) /* the kernel's signal frame may have 11 KiB of registers */
#define GUARD_BYTES (64 << 10)  /* a page of the largest kind */
#define KERNEL_SIGNALS 64

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#if defined(__clang__)
#define PLAIN __attribute__((noinline, no_sanitize("address", "undefined")))
#else
#define PLAIN __attribute__((noinline, no_sanitize_address, no_sanitize_undefined))
#endif

/* What failed. The names are constants of the module. */
enum step {
    EXECUTED,
    CLONE,
    CUT_OFF, /* ended by a signal before exec */
    GUARD,
    PLACE_OPEN,
    PLACE_ENTER,
    SESSION,
    STREAMS,
    MASK,
    NICE,
    LIMIT,
    IDENTITY,
    DIRECTORY,
    EXECUTE
};

struct request {
    char **paths, **argv, **env;
    const char *cwd;
    int input, output, cgroup, placed;
    int mask;     /* -1: as ours */
    int niceness; /* INT_MIN: as ours */
    long processes; /* -1: as ours */
    struct rlimit64 files;
    long uid, gid; /* uid -1: as ours */
    gid_t *groups;
    size_t group_count;
    volatile int step, error; /* the child's report */
};

struct kernel_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

struct clone_request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static struct request *current; /* for the handler */
static char *stack;

/* Negative: an error number. */
PLAIN static long call(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
    long result;
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long which __asm__("x8") = number;
    register long first __asm__("x0") = a;
    register long second __asm__("x1") = b;
    register long third __asm__("x2") = c;
    register long fourth __asm__("x3") = d;
    register long fifth __asm__("x4") = e;
    __asm__ volatile("svc #0"
                     : "+r"(first)
                     : "r"(which), "r"(second), "r"(third), "r"(fourth), "r"(fifth)
                     : "memory");
    return first;
#else
#error "only x86-64 and AArch64 are known here; the other ways of starting serve elsewhere"
#endif
}

#define CALL(number, a, b, c, d, e) call((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

PLAIN static void leave(void)
{
    for (;;)
        CALL(SYS_exit_group, 127, 0, 0, 0, 0);
}

PLAIN static void fail(struct request *request, enum step step, long result)
{
    request->error = (int)-result;
    request->step = step;
    leave();
}

PLAIN static void on_signal(int number)
{
    (void)number;
    if (current->step == EXECUTED)
        current->step = CUT_OFF;
    leave();
}

PLAIN static void guard(struct request *request)
{
    struct {
        uint64_t value;
        int32_t signal, notify;
        uint64_t rest[6];
    } event = {0, SIGKILL, SIGEV_SIGNAL, {0}};
    int64_t span[4] = {0, 0, 0, WITHIN_MS * 1000000L};
    int32_t timer = 0;
    long result = CALL(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer, 0, 0);
    if (result >= 0)
        result = CALL(SYS_timer_settime, timer, 0, span, 0, 0);
    if (result < 0)
        fail(request, GUARD, result);
}

PLAIN static void enter_cgroup(struct request *request)
{
    long file = CALL(SYS_openat, request->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC, 0, 0);
    if (file < 0)
        fail(request, PLACE_OPEN, file);
    long result = CALL(SYS_write, file, "0", 1, 0, 0);
    if (result < 0)
        fail(request, PLACE_ENTER, result);
}

PLAIN static void set_signals(void)
{
    struct kernel_action action = {NULL, 0x04000000 /* SA_RESTORER */, leave, ~0ULL};
    for (int number = 1; number <= KERNEL_SIGNALS; number++) {
        /* Those that do nothing by default may come. */
        int harmless = number == SIGCHLD || number == SIGCONT || number == SIGURG || number == SIGWINCH;
        action.handler = harmless ? SIG_DFL : on_signal;
        if (number != SIGKILL && number != SIGSTOP)
            CALL(SYS_rt_sigaction, number, &action, 0, sizeof action.mask, 0);
    }
}

PLAIN static void set_streams(struct request *request)
{
    for (int number = 0; number <= 2; number++) {
        long result = CALL(SYS_dup3, number ? request->output : request->input, number, 0, 0, 0);
        if (result < 0)
            fail(request, STREAMS, result);
    }
    /* All of ours close on exec; this is for what we do not know. Linux before 5.9 does not have it. */
    CALL(SYS_close_range, 3, ~0U, 0, 0, 0);
}

PLAIN static void limit(struct request *request, int which, const struct rlimit64 *most)
{
    long result = CALL(SYS_prlimit64, 0, which, most, 0, 0);
    if (result < 0)
        fail(request, LIMIT, result);
}

PLAIN static void set_groups(struct request *request)
{
    long result = CALL(SYS_setgroups, request->group_count, request->groups, 0, 0, 0);
    if (result >= 0)
        result = CALL(SYS_setresgid, request->gid, request->gid, request->gid, 0, 0);
    if (result < 0)
        fail(request, IDENTITY, result);
    /* It tells what it was, not whether it worked; -1 is nobody, and only asks. */
    CALL(SYS_setfsuid, request->uid, 0, 0, 0, 0);
    if (CALL(SYS_setfsuid, -1, 0, 0, 0, 0) != (long)(int)request->uid)
        fail(request, IDENTITY, -EPERM);
}

PLAIN static int exists(const char *path)
{
    struct stat facts;
    return CALL(SYS_newfstatat, AT_FDCWD, path, &facts, AT_SYMLINK_NOFOLLOW, 0) >= 0;
}

PLAIN static int worth_looking_on(long error)
{
    return error == ENOENT || error == ENOTDIR || error == EACCES || error == ESTALE || error == ENODEV
           || error == ETIMEDOUT;
}

/* As `runner.supervisor.starting.command.execute`. */
PLAIN static void execute(struct request *request)
{
    long refused = 0;
    int changed = request->uid < 0;
    for (char **path = request->paths; *path; path++) {
        if (request->paths[1] && !exists(*path))
            continue;
        if (!changed) {
            long result = CALL(SYS_setresuid, request->uid, request->uid, request->uid, 0, 0);
            if (result < 0)
                fail(request, IDENTITY, result);
            changed = 1;
        }
        long error = -CALL(SYS_execve, *path, request->argv, request->env, 0, 0);
        if (!worth_looking_on(error))
            fail(request, EXECUTE, -error);
        if (!refused || error == EACCES)
            refused = error;
    }
    fail(request, EXECUTE, refused ? -refused : -ENOENT);
}

PLAIN static void become(struct request *request)
{
    uint64_t none = 0;
    long result;
    guard(request);
    set_signals();
    if (request->cgroup >= 0 && !request->placed)
        enter_cgroup(request);
    if ((result = CALL(SYS_setsid, 0, 0, 0, 0, 0)) < 0)
        fail(request, SESSION, result);
    set_streams(request);
    if (request->mask >= 0)
        CALL(SYS_umask, request->mask, 0, 0, 0, 0);
    limit(request, RLIMIT_NOFILE, &request->files);
    if (request->processes >= 0) {
        struct rlimit64 most = {(rlim64_t)request->processes, (rlim64_t)request->processes};
        limit(request, RLIMIT_NPROC, &most);
    }
    if (request->niceness != INT32_MIN
        && (result = CALL(SYS_setpriority, PRIO_PROCESS, 0, request->niceness, 0, 0)) < 0)
        fail(request, NICE, result);
    if (request->uid >= 0)
        set_groups(request);
    if ((result = CALL(SYS_chdir, request->cwd, 0, 0, 0, 0)) < 0)
        fail(request, DIRECTORY, result);
    if ((result = CALL(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none, 0)) < 0)
        fail(request, MASK, result);
    execute(request);
}

/* The child comes back from the system call on its own stack, and from `become` never. */
PLAIN static long clone_child(const struct clone_request *how, struct request *request)
{
    long result;
#if defined(__x86_64__)
    register const struct clone_request *first __asm__("rdi") = how;
    register struct request *kept __asm__("r12") = request;
    register void (*then)(struct request *) __asm__("r13") = become;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "movq %%r12, %%rdi\n\t"
                     "call *%%r13\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "0"((long)SYS_clone3), "r"(first), "S"(sizeof *how), "r"(kept), "r"(then)
                     : "rcx", "r11", "memory", "cc");
#else
    register long which __asm__("x8") = SYS_clone3;
    register long first __asm__("x0") = (long)how;
    register long size __asm__("x1") = sizeof *how;
    register struct request *kept __asm__("x20") = request;
    register void (*then)(struct request *) __asm__("x21") = become;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x30, #0\n\t"
                     "mov x0, x20\n\t"
                     "blr x21\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(first)
                     : "r"(which), "r"(size), "r"(kept), "r"(then)
                     : "memory", "cc");
    result = first;
#endif
    return result;
}

static long make_child(struct request *request)
{
    struct clone_request how = {0};
    how.flags = CLONE_VFORK | CLONE_VM;
    how.exit_signal = SIGCHLD;
    how.stack = (uint64_t)(uintptr_t)(stack + GUARD_BYTES);
    how.stack_size = STACK_BYTES;
    if (request->cgroup >= 0) {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = (uint64_t)request->cgroup;
        request->placed = 1;
        long pid = clone_child(&how, request);
        if (pid > 0 || pid == -EAGAIN || pid == -ENOMEM || pid == -ENOSYS)
            return pid;
        how.flags &= ~CLONE_INTO_CGROUP; /* it moves itself there */
        how.cgroup = 0;
        request->placed = 0;
    }
    return clone_child(&how, request);
}

/* The pid, or 0 with the report made: a child that could not execute has been reaped. */
static long run(struct request *request, int *late)
{
    uint64_t all = ~0ULL, before = 0;
    struct timespec begun = {0, 0}, ended = {0, 0};
    if (!stack) {
        void *made = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED || mprotect(made, GUARD_BYTES, PROT_NONE)) {
            request->error = ENOMEM;
            request->step = CLONE;
            return 0;
        }
        stack = made;
    }
    request->step = EXECUTED;
    request->error = 0;
    current = request;
    /* A signal to the child that is meant for us, as from a terminal, must not come before its handlers are set. */
    CALL(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all, 0);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    long pid = make_child(request);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    if (pid < 0) {
        request->error = (int)-pid;
        request->step = CLONE;
        pid = 0;
    } else if (request->step != EXECUTED) {
        while (CALL(SYS_wait4, pid, 0, 0, 0, 0) == -EINTR)
            ;
        pid = 0;
    }
    CALL(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, sizeof before, 0);
    int64_t took = (int64_t)(ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000;
    *late = took >= WITHIN_MS - 5;
    return pid;
}

/* The strings of a list of bytes, ended by NULL; they are the list's own. */
static char **strings(PyObject *list)
{
    Py_ssize_t count = PyList_Size(list);
    char **found = PyMem_Calloc((size_t)count + 1, sizeof *found);
    if (!found) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        if (PyBytes_AsStringAndSize(PyList_GetItem(list, at), &found[at], NULL)) {
            PyMem_Free(found);
            return NULL;
        }
    }
    return found;
}

static gid_t *numbers(PyObject *list, size_t *count)
{
    *count = (size_t)PyList_Size(list);
    gid_t *found = PyMem_Calloc(*count + 1, sizeof *found);
    if (!found) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t at = 0; at < *count; at++) {
        unsigned long value = PyLong_AsUnsignedLong(PyList_GetItem(list, (Py_ssize_t)at));
        if (PyErr_Occurred()) {
            PyMem_Free(found);
            return NULL;
        }
        found[at] = (gid_t)value;
    }
    return found;
}

static PyObject *start(PyObject *module, PyObject *given)
{
    (void)module;
    struct request request = {0};
    PyObject *paths, *argv, *env, *groups, *answer = NULL;
    unsigned long long soft, hard;
    if (!PyArg_ParseTuple(given, "O!O!O!yiiiO!lliilKK:start", &PyList_Type, &paths, &PyList_Type, &argv, &PyList_Type,
                          &env, &request.cwd, &request.input, &request.output, &request.cgroup, &PyList_Type, &groups,
                          &request.gid, &request.uid, &request.mask, &request.niceness, &request.processes, &soft,
                          &hard))
        return NULL;
    request.files = (struct rlimit64){soft, hard};
    if ((request.paths = strings(paths)) && (request.argv = strings(argv)) && (request.env = strings(env))
        && (request.groups = numbers(groups, &request.group_count))) {
        int late = 0;
        long pid = run(&request, &late);
        answer = Py_BuildValue("(liiO)", pid, request.step, request.error, late ? Py_True : Py_False);
    }
    PyMem_Free(request.paths);
    PyMem_Free(request.argv);
    PyMem_Free(request.env);
    PyMem_Free(request.groups);
    return answer;
}

static PyMethodDef methods[] = {
    {"start", start, METH_VARARGS,
     "start(paths, argv, env, cwd, stdin, output, cgroup, groups, gid, uid, umask, nice, processes, nofile, nofile_hard)"
     " -> (pid, step, errno, late)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_spawn", "See _spawn.c.", -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__spawn(void)
{
    PyObject *module = PyModule_Create(&definition);
    const struct {
        const char *name;
        int value;
    } steps[] = {{"CLONE", CLONE}, {"CUT_OFF", CUT_OFF}, {"GUARD", GUARD}, {"PLACE_OPEN", PLACE_OPEN},
                 {"NICE", NICE}, {"DIRECTORY", DIRECTORY}, {"EXECUTE", EXECUTE}};
    for (size_t at = 0; module && at < sizeof steps / sizeof *steps; at++)
        if (PyModule_AddIntConstant(module, steps[at].name, steps[at].value))
            Py_CLEAR(module);
    return module;
}
