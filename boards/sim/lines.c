// Which lines of Python the board has run, for coverage: in a build with sys.settrace only.
//
// Each line of a file (nothing of what is typed at the prompt) is noted once in FLASH.lines, beside
// the flash chip's file, as "file:line". What is noted there survives a reset and a power cut, takes
// nothing of the board's heap, and does not disturb its serial line. A program that calls
// sys.settrace() itself is traced by that instead.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "py/compile.h"
#include "py/profile.h"
#include "py/runtime.h"
#include "sim.h"

#if MICROPY_PY_SYS_SETTRACE

#define MOST_LINES  (65536) // of one file
#define NOTE_BYTES  (512)

typedef struct _source_t {
    struct _source_t *next;
    size_t bytes;
    uint8_t *seen; // a bit a line
    char name[];
} source_t;

static source_t *sources;
static int notes_fd = -1;

// The file of the line before: most lines follow one of the same file.
static qstr latest_qstr;
static source_t *latest;

static source_t *find_source(const char *name) {
    for (source_t *source = sources; source != NULL; source = source->next) {
        if (strcmp(source->name, name) == 0) {
            return source;
        }
    }
    source_t *made = calloc(1, sizeof(source_t) + strlen(name) + 1);
    if (made != NULL) {
        strcpy(made->name, name);
        made->next = sources;
        sources = made;
    }
    return made;
}

// Returns whether the line is new.
static bool see(source_t *source, size_t line) {
    if (line >= MOST_LINES) {
        return false;
    }
    if (line / 8 >= source->bytes) {
        size_t bytes = line / 8 + 32;
        uint8_t *seen = realloc(source->seen, bytes);
        if (seen == NULL) {
            return false;
        }
        memset(seen + source->bytes, 0, bytes - source->bytes);
        source->seen = seen;
        source->bytes = bytes;
    }
    uint8_t bit = 1 << (line % 8);
    bool is_new = (source->seen[line / 8] & bit) == 0;
    source->seen[line / 8] |= bit;
    return is_new;
}

static void note(const char *name, size_t line) {
    char text[NOTE_BYTES];
    int length = snprintf(text, sizeof(text), "%s:%zu\n", name, line);
    // One write of a whole line: a power cut leaves no half of one.
    if (length > 0 && (size_t)length < sizeof(text) && write(notes_fd, text, length) != length) {
        perror("simulated board: lines");
        exit(SIM_EXIT_CANNOT_RUN); // a coverage that lacks lines in silence would be worse
    }
}

static mp_obj_t trace(mp_obj_t frame, mp_obj_t event, mp_obj_t arg);
static MP_DEFINE_CONST_FUN_OBJ_3(trace_obj, trace);

static mp_obj_t trace(mp_obj_t frame, mp_obj_t event, mp_obj_t arg) {
    (void)arg;
    if (event == MP_OBJ_NEW_QSTR(MP_QSTR_line)) {
        qstr file = mp_obj_str_get_qstr(mp_load_attr(mp_load_attr(frame, MP_QSTR_f_code), MP_QSTR_co_filename));
        if (latest == NULL || file != latest_qstr) {
            latest_qstr = file;
            latest = find_source(qstr_str(file));
        }
        size_t line = MP_OBJ_SMALL_INT_VALUE(mp_load_attr(frame, MP_QSTR_f_lineno));
        if (latest != NULL && latest->name[0] != '<' && see(latest, line)) {
            note(latest->name, line);
        }
    }
    return MP_OBJ_FROM_PTR(&trace_obj); // for the lines of the frame that is entered
}

// micropython.opt_level(3) leaves line numbers out of what is compiled, to save memory; all else that
// it means, such as no asserts, it means here too.
#define WITHOUT_LINES (3)

mp_obj_t __real_mp_compile(mp_parse_tree_t *tree, qstr source_file, bool is_repl);

mp_obj_t __wrap_mp_compile(mp_parse_tree_t *tree, qstr source_file, bool is_repl) {
    mp_uint_t asked = MP_STATE_VM(mp_optimise_value);
    nlr_buf_t nlr;
    if (asked >= WITHOUT_LINES) {
        MP_STATE_VM(mp_optimise_value) = WITHOUT_LINES - 1;
    }
    if (nlr_push(&nlr) == 0) {
        mp_obj_t compiled = __real_mp_compile(tree, source_file, is_repl);
        nlr_pop();
        MP_STATE_VM(mp_optimise_value) = asked;
        return compiled;
    }
    MP_STATE_VM(mp_optimise_value) = asked;
    nlr_jump(nlr.ret_val);
}

// Called at the start of each run of the interpreter, which has new qstrs.
void sim_lines_start(void) {
    if (notes_fd < 0) {
        char path[4096];
        snprintf(path, sizeof(path), "%s.lines", sim_options.flash_path);
        notes_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (notes_fd < 0) {
            perror(path);
            exit(SIM_EXIT_CANNOT_RUN);
        }
    }
    latest = NULL;
    mp_prof_settrace(MP_OBJ_FROM_PTR(&trace_obj));
}

#endif
