/* llvconv for other languages: models opened, items embedded, checkpoints imported, quantized and verified.

   Everything may be called from several threads at once, a model too. There is no global state: what one model does,
   another does not know. No signal handler is installed and nothing is printed.

   A call that can fail returns LLVCONV_OK or the exit code that the program would have, and then sets *error where
   `error` is not NULL. What is returned through a pointer to a pointer is freed by its own function. Texts are
   UTF-8. */
#ifndef LLVCONV_H
#define LLVCONV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a program made for one number would not work with a library of the next. */
#define LLVCONV_ABI 1

enum {
  LLVCONV_OK = 0,
  LLVCONV_USAGE = 64,         /* an argument is wrong */
  LLVCONV_MALFORMED = 65,     /* the bytes break the format */
  LLVCONV_MISSING = 66,       /* a needed file is absent, unreadable or not a regular file */
  LLVCONV_UNSUPPORTED = 69,   /* legal, but not something we do */
  LLVCONV_INTERNAL = 70,      /* our mistake; please report it */
  LLVCONV_CANNOT_CREATE = 73, /* the output cannot be created, or exists already */
  LLVCONV_IO = 74,            /* reading or writing failed half way */
  LLVCONV_LIMIT = 75          /* over a limit of memory, size or count */
};

typedef struct llvconv_model llvconv_model;
typedef struct llvconv_error llvconv_error;

int32_t llvconv_abi(void);
/* The version; freed by llvconv_text_free. */
char *llvconv_version(void);

/* ---- Errors: what went wrong, or a list of what is wrong with single items ---- */

int32_t llvconv_error_code(const llvconv_error *error);
/* The kind in a word, as "malformed"; stays while the error does. */
const char *llvconv_error_kind(const llvconv_error *error);
/* One line for each fault, without a final newline; stays while the error does. */
const char *llvconv_error_message(const llvconv_error *error);
/* The item that is bad, counted from 0; -1 for the call as a whole. */
int64_t llvconv_error_row(const llvconv_error *error);
/* The next bad item, or NULL; belongs to the first. */
const llvconv_error *llvconv_error_next(const llvconv_error *error);
/* With all that come after it. */
void llvconv_error_free(llvconv_error *error);

void llvconv_text_free(char *text);

/* ---- Being told while a call runs ---- */

enum { LLVCONV_NOTE = 0, LLVCONV_WARNING = 1, LLVCONV_PROGRESS = 2, LLVCONV_FINISHED = 3 };

/* Called from any thread, never from two at once by one call. `text` is the remark, or what is being done, of which
   `share` says how much is. NULL where nobody listens. */
typedef void (*llvconv_listener)(void *context, int32_t what, const char *text, double share);

/* ---- Models ---- */

/* `options` is a JSON object with the names of `llvconv embed --help` without dashes, as {"threads": 2}, or NULL. */
int32_t llvconv_open(
    const char *path, const char *options, llvconv_listener listener, void *context, llvconv_model **model,
    llvconv_error **error);
/* No call may be using it. */
void llvconv_close(llvconv_model *model);
/* Numbers in a vector. */
int64_t llvconv_dimensions(const llvconv_model *model);
/* What the model is, as a JSON object; freed by llvconv_text_free. */
char *llvconv_describe(const llvconv_model *model);

/* ---- Embedding ---- */

/* A picture in memory. */
typedef struct {
  const uint8_t *bytes;
  size_t count;
  uint32_t width, height; /* of count = 3 * width * height bytes of RGB; 0 for the bytes of a picture file */
} llvconv_picture;

enum { LLVCONV_TEXTS = 0, LLVCONV_JSON = 1 };

/* Items, one after the other: item i is bytes[offsets[i] ..< offsets[i + 1]]. */
typedef struct {
  int64_t count;
  const char *bytes;
  const int64_t *offsets; /* count + 1 */
  int32_t kind;           /* LLVCONV_TEXTS, or LLVCONV_JSON for items as `embed` reads them, a JSON value each */
  const llvconv_picture *pictures;
  const int64_t *picture_offsets; /* count + 1: the pictures of each item, after those it names; NULL for none */
  const char *prompt;             /* name of one of the model's prompts; NULL for its default */
  const char *folder;             /* where relative paths start, with a final slash; NULL for the working folder */
} llvconv_items;

/* Embeds items into `vectors`, count * dimensions floats of the caller's, row by row.

   LLVCONV_OK although items are bad: *error is then the first of them and leads to the others, and their rows are
   NaN. `tokens` and `cut` may be NULL; else they are given the tokens of each item, and those that were left out of it
   because it was too long. */
int32_t llvconv_embed(
    const llvconv_model *model, const llvconv_items *items, float *vectors, int64_t *tokens, int64_t *cut,
    llvconv_listener listener, void *context, llvconv_error **error);

/* ---- Making and checking models ---- */

/* `options` are those of the program's command of this name. Each sets *result, where it is not NULL, to a JSON object
   that is freed by llvconv_text_free. */
int32_t llvconv_import(
    const char *source, const char *output, const char *options, llvconv_listener listener, void *context,
    char **result, llvconv_error **error);
int32_t llvconv_quantize(
    const char *model, const char *output, const char *options, llvconv_listener listener, void *context,
    char **result, llvconv_error **error);
/* The result has "verdict" (pass, fail, inconclusive), "report" as verify --json prints it, and "page" in HTML. */
int32_t llvconv_verify(
    const char *const *candidates, int64_t count, const char *reference, const char *data, const char *options,
    llvconv_listener listener, void *context, char **result, llvconv_error **error);

/* ---- Anchors: what lies beside an index ---- */

/* Chooses items of `data` and writes them with the vectors that `model` gives them. `model` may be NULL where the
   option "vectors" names files of vectors. The result is what `anchors --json` prints. */
int32_t llvconv_anchors(
    const char *model, const char *data, const char *output, const char *options, llvconv_listener listener,
    void *context, char **result, llvconv_error **error);
/* Writes the items of anchors as JSON lines for another program to embed, their pictures into `output`.pictures. The
   one option is "force". */
int32_t llvconv_anchor_items(
    const char *anchors, const char *output, const char *options, llvconv_error **error);
/* Holds candidates to anchors: models, .npy files with a row for each anchor, and a server where the options name one
   ("endpoint"); `count` may then be 0. The result is as llvconv_verify's. */
int32_t llvconv_verify_anchors(
    const char *const *candidates, int64_t count, const char *anchors, const char *options, llvconv_listener listener,
    void *context, char **result, llvconv_error **error);

#ifdef __cplusplus
}
#endif
#endif
