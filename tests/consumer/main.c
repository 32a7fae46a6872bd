/* The same in C99: consumer_c float32 model.safetensors x seq_len batch_size y, for
   models that answer at every step. Also tries what must fail. */
#include <fastlstm/fastlstm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, fastlstm_last_error());
  return 1;
}

/* Errors come as statuses with a line of text, and leave NULL. */
static int check_errors(const fastlstm_model* model) {
  fastlstm_model* none = NULL;
  fastlstm_stream* stream = NULL;
  const float x[3] = {0, 0, 0};
  float number = 0;
  const int64_t index = 0;
  if (fastlstm_model_load("nowhere", &none) != FASTLSTM_BAD_MODEL || none != NULL ||
      strcmp(fastlstm_last_error(), "nowhere: No such file or directory") != 0) {
    return fail("loading nothing");
  }
  if (fastlstm_model_load("nowhere", NULL) != FASTLSTM_INVALID_ARGUMENT) {
    return fail("loading into nothing");
  }
  if (fastlstm_model_from_bytes("", 0, &none) != FASTLSTM_BAD_MODEL || none != NULL) {
    return fail("loading no bytes");
  }
  if (fastlstm_model_predict(model, &number, -1, 1, &number) !=
          FASTLSTM_INVALID_ARGUMENT ||
      strcmp(fastlstm_last_error(), "seq_len must not be negative, got -1") != 0) {
    return fail("a negative length");
  }
  if (fastlstm_model_predict_indices(model, &index, 1, 1, &number) !=
      FASTLSTM_INVALID_ARGUMENT) {
    return fail("indices without an embedding");
  }
  if (fastlstm_model_predict(model, NULL, 1, 1, &number) != FASTLSTM_INVALID_ARGUMENT ||
      strcmp(fastlstm_last_error(), "x must have 3 values, got null") != 0) {
    return fail("no x");
  }
  if (fastlstm_model_predict(model, x, 1, 1, NULL) != FASTLSTM_INVALID_ARGUMENT ||
      strcmp(fastlstm_last_error(), "y must have 2 values, got null") != 0) {
    return fail("no y");
  }
  if (fastlstm_model_predict(NULL, x, 1, 1, &number) != FASTLSTM_INVALID_ARGUMENT ||
      fastlstm_stream_create(NULL, 1, &stream) != FASTLSTM_INVALID_ARGUMENT ||
      strcmp(fastlstm_last_error(), "model must not be NULL") != 0) {
    return fail("no model");
  }
  if (fastlstm_model_from_bytes(NULL, 8, &none) != FASTLSTM_INVALID_ARGUMENT) {
    return fail("loading no memory");
  }
  if (fastlstm_stream_create(model, 0, &stream) != FASTLSTM_INVALID_ARGUMENT ||
      stream != NULL) {
    return fail("no streams");
  }
  if (fastlstm_set_num_threads(0) != FASTLSTM_INVALID_ARGUMENT ||
      strcmp(fastlstm_last_error(),
             "num_threads must be an integer from 1 to 1024, got 0") != 0) {
    return fail("no threads");
  }
  fastlstm_model_free(NULL);
  fastlstm_stream_free(NULL);
  return 0;
}

/* Step by step and in blocks, streams answer as the whole sequence does. */
static int check_stream(fastlstm_stream* stream, const float* x, const float* y,
                        size_t steps, size_t x_step, size_t y_step, float* again) {
  for (size_t t = 0; t < steps; ++t) {
    fastlstm_stream_step(stream, x + t * x_step, again + t * y_step);
  }
  if (memcmp(again, y, steps * y_step * sizeof(float)) != 0) return fail("step");
  fastlstm_stream_reset(stream, NULL);
  fastlstm_stream_process(stream, x, again, (int64_t)steps);
  if (memcmp(again, y, steps * y_step * sizeof(float)) != 0) return fail("process");
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 7 || fastlstm_last_error()[0] != '\0') return fail("start");
  fastlstm_model* model = NULL;
  if (fastlstm_model_load(argv[2], &model) != FASTLSTM_OK) return fail("load");
  if (!fastlstm_model_return_sequences(model)) return fail("return_sequences");
  if (check_errors(model) != 0) return 1;

  const int64_t seq_len = atoi(argv[4]), batch_size = atoi(argv[5]);
  const size_t x_step = (size_t)(batch_size * fastlstm_model_input_size(model));
  const size_t y_step = (size_t)(batch_size * fastlstm_model_output_size(model));
  const size_t steps = (size_t)seq_len;
  float* x = malloc(steps * x_step * sizeof(float));
  float* y = malloc(steps * y_step * sizeof(float));
  float* again = malloc(steps * y_step * sizeof(float));
  FILE* file = fopen(argv[3], "rb");
  if (x == NULL || y == NULL || again == NULL || file == NULL) return fail("memory");
  if (fread(x, sizeof(float), steps * x_step, file) != steps * x_step) {
    return fail("x");
  }
  fclose(file);
  if (fastlstm_model_predict(model, x, seq_len, batch_size, y) != FASTLSTM_OK) {
    return fail("predict");
  }
  if (fastlstm_set_num_threads(1) != FASTLSTM_OK ||
      fastlstm_model_predict(model, x, seq_len, batch_size, again) != FASTLSTM_OK ||
      memcmp(again, y, steps * y_step * sizeof(float)) != 0) {
    return fail("one thread");
  }
  fastlstm_stream* stream = NULL;
  if (fastlstm_stream_create(model, batch_size, &stream) != FASTLSTM_OK) {
    return fail("stream");
  }
  fastlstm_model_free(model); /* the stream goes on without it */
  if (check_stream(stream, x, y, steps, x_step, y_step, again) != 0) return 1;
  fastlstm_stream_free(stream);

  file = fopen(argv[6], "wb");
  if (file == NULL ||
      fwrite(y, sizeof(float), steps * y_step, file) != steps * y_step ||
      fclose(file) != 0) {
    return fail("y");
  }
  free(x);
  free(y);
  free(again);
  return 0;
}
