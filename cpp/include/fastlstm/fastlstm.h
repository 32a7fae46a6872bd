/* fastlstm for C99: load a model that Python's SequenceModel.save wrote and run it,
   whole sequences or step by step. Everything the C++ header offers beyond that is C++
   only.

   No function throws, prints or aborts. Those that may fail return a status; what went
   wrong is one line in fastlstm_last_error(); NULL is refused there. The others take
   no NULL where nothing else is said. The interface keeps its form within a minor
   version. */
#ifndef FASTLSTM_FASTLSTM_H
#define FASTLSTM_FASTLSTM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastlstm/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NOLINTBEGIN(modernize-use-using) */
typedef enum fastlstm_status {
  FASTLSTM_OK = 0,
  FASTLSTM_INVALID_ARGUMENT = 1, /* a size, an index or a kind of input */
  FASTLSTM_BAD_MODEL = 2,        /* the file cannot be read or is no model of these */
  FASTLSTM_OUT_OF_MEMORY = 3,
  FASTLSTM_INTERNAL_ERROR = 4 /* a fault of the library: please report it */
} fastlstm_status;

/* A model of float32 weights; never changes, any number of threads may use it. */
typedef struct fastlstm_model fastlstm_model;
/* N streams of a model that advance together; one thread at a time. Outlives its model.
 */
typedef struct fastlstm_stream fastlstm_stream;
/* NOLINTEND(modernize-use-using) */

/* "0.1.0" */
FASTLSTM_API const char* fastlstm_version(void);

/* Why this thread's latest call that returned a status other than FASTLSTM_OK failed;
   "" before that. Valid until this thread's next failure. */
FASTLSTM_API const char* fastlstm_last_error(void);

/* Sets the most threads that a call may use, 1 to 1024. Before, these are
   FASTLSTM_NUM_THREADS of the environment, or the CPUs this process may use. Results
   never depend on it. */
FASTLSTM_API fastlstm_status fastlstm_set_num_threads(int num_threads);

/* Reads a safetensors file, or the bytes of one, which may go away afterwards. *model
   is NULL on failure. */
FASTLSTM_API fastlstm_status fastlstm_model_load(const char* path,
                                                 fastlstm_model** model);
FASTLSTM_API fastlstm_status fastlstm_model_from_bytes(const void* data, size_t size,
                                                       fastlstm_model** model);
/* NULL is allowed. */
FASTLSTM_API void fastlstm_model_free(fastlstm_model* model);

FASTLSTM_API int64_t fastlstm_model_input_size(const fastlstm_model* model);  /* I */
FASTLSTM_API int64_t fastlstm_model_output_size(const fastlstm_model* model); /* O */
FASTLSTM_API int64_t fastlstm_model_hidden_size(const fastlstm_model* model); /* H */
FASTLSTM_API int64_t fastlstm_model_num_layers(const fastlstm_model* model);
/* Rows of the embedding; 0 where there is none. */
FASTLSTM_API int64_t fastlstm_model_num_embeddings(const fastlstm_model* model);
/* Whether predict answers at every step, or once after the last. */
FASTLSTM_API bool fastlstm_model_return_sequences(const fastlstm_model* model);
/* Whether answers are logits of classes, or values. */
FASTLSTM_API bool fastlstm_model_is_classifier(const fastlstm_model* model);

/* Runs whole sequences from the initial state (zero unless it was learned), on as many
   threads as help.
   x: (seq_len, batch_size, I), row-major; read
   y: (seq_len, batch_size, O) with return_sequences, else (batch_size, O); written */
FASTLSTM_API fastlstm_status fastlstm_model_predict(const fastlstm_model* model,
                                                    const float* x, int64_t seq_len,
                                                    int64_t batch_size, float* y);
/* The same for models with an embedding; x: (seq_len, batch_size) of its rows. */
FASTLSTM_API fastlstm_status fastlstm_model_predict_indices(const fastlstm_model* model,
                                                            const int64_t* x,
                                                            int64_t seq_len,
                                                            int64_t batch_size,
                                                            float* y);

/* Makes `batch_size` streams, N, with their own copy of the weights, in the model's
   initial state, learned or zero.
   Not for models of two directions or with an embedding. *stream is NULL on failure. */
FASTLSTM_API fastlstm_status fastlstm_stream_create(const fastlstm_model* model,
                                                    int64_t batch_size,
                                                    fastlstm_stream** stream);
/* NULL is allowed. */
FASTLSTM_API void fastlstm_stream_free(fastlstm_stream* stream);

/* Real-time: these allocate nothing, take no lock, make no system call, cannot fail. */

/* One step. x: (N, I), read before y: (N, O) is written. */
FASTLSTM_API void fastlstm_stream_step(fastlstm_stream* stream, const float* x,
                                       float* y);
/* The same. active: (N,) or NULL: all; where false, state and y stay as they are.
   reset: (N,) or NULL: none; where true, the state is zero before the step. */
FASTLSTM_API void fastlstm_stream_step_rows(fastlstm_stream* stream, const float* x,
                                            float* y, const bool* active,
                                            const bool* reset);
/* `steps` steps. x: (steps, N, I), y: (steps, N, O); they must not overlap. */
FASTLSTM_API void fastlstm_stream_process(fastlstm_stream* stream, const float* x,
                                          float* y, int64_t steps);
/* Back to the initial state, learned or zero, where rows: (N,) is true; NULL: all. */
FASTLSTM_API void fastlstm_stream_reset(fastlstm_stream* stream, const bool* rows);

#ifdef __cplusplus
}
#endif

#endif
