// The C interface: every exception ends here, as a status and a line of text.
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "fastlstm/fastlstm.h"
#include "fastlstm/model.hpp"
#include "fastlstm/stream.hpp"
#include "fastlstm/threads.hpp"

struct fastlstm_model {
  fastlstm::Model<float> model;
};

struct fastlstm_stream {
  fastlstm::Stream<float> stream;
};

namespace {

// A fixed array: keeping a message must not fail.
thread_local char last_error[512] = "";

fastlstm_status failed(fastlstm_status status, const char* message) noexcept {
  std::snprintf(last_error, sizeof(last_error), "%s", message);
  return status;
}

template <class Call>
fastlstm_status guarded(const Call& call) noexcept {
  try {
    call();
    return FASTLSTM_OK;
  } catch (const fastlstm::ModelError& error) {
    return failed(FASTLSTM_BAD_MODEL, error.what());
  } catch (const std::invalid_argument& error) {
    return failed(FASTLSTM_INVALID_ARGUMENT, error.what());
  } catch (const std::length_error& error) {
    return failed(FASTLSTM_OUT_OF_MEMORY, error.what());
  } catch (const std::bad_alloc&) {
    return failed(FASTLSTM_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return failed(FASTLSTM_INTERNAL_ERROR, error.what());
  } catch (...) {
    return failed(FASTLSTM_INTERNAL_ERROR, "unknown exception");
  }
}

template <class Pointee>
void need(const char* name, const Pointee* pointer) {
  if (pointer == nullptr) {
    throw std::invalid_argument(std::string(name) + " must not be NULL");
  }
}

template <class Load>
fastlstm_status load_into(fastlstm_model** model, const Load& load) {
  return guarded([&] {
    need("model", model);
    *model = nullptr;
    *model = new fastlstm_model{load()};
  });
}

}  // namespace

const char* fastlstm_version(void) { return FASTLSTM_VERSION; }

const char* fastlstm_last_error(void) { return last_error; }

fastlstm_status fastlstm_set_num_threads(int num_threads) {
  return guarded([&] { fastlstm::set_num_threads(num_threads); });
}

fastlstm_status fastlstm_model_load(const char* path, fastlstm_model** model) {
  return load_into(model, [&] {
    need("path", path);
    return fastlstm::Model<float>::load(path);
  });
}

fastlstm_status fastlstm_model_from_bytes(const void* data, size_t size,
                                          fastlstm_model** model) {
  return load_into(model, [&] {
    need("data", data);
    return fastlstm::Model<float>::from_bytes(data, size);
  });
}

void fastlstm_model_free(fastlstm_model* model) { delete model; }

int64_t fastlstm_model_input_size(const fastlstm_model* model) {
  return model->model.config().input_size;
}

int64_t fastlstm_model_output_size(const fastlstm_model* model) {
  return model->model.output_size();
}

int64_t fastlstm_model_hidden_size(const fastlstm_model* model) {
  return model->model.config().hidden_size;
}

int64_t fastlstm_model_num_layers(const fastlstm_model* model) {
  return model->model.config().num_layers;
}

int64_t fastlstm_model_num_embeddings(const fastlstm_model* model) {
  return model->model.num_embeddings();
}

bool fastlstm_model_return_sequences(const fastlstm_model* model) {
  return model->model.return_sequences();
}

bool fastlstm_model_is_classifier(const fastlstm_model* model) {
  return model->model.task() == fastlstm::Task::classification;
}

fastlstm_status fastlstm_model_predict(const fastlstm_model* model, const float* x,
                                       int64_t seq_len, int64_t batch_size, float* y) {
  return guarded([&] {
    need("model", model);
    model->model.predict(x, seq_len, batch_size, y);
  });
}

fastlstm_status fastlstm_model_predict_indices(const fastlstm_model* model,
                                               const int64_t* x, int64_t seq_len,
                                               int64_t batch_size, float* y) {
  return guarded([&] {
    need("model", model);
    model->model.predict(x, seq_len, batch_size, y);
  });
}

fastlstm_status fastlstm_stream_create(const fastlstm_model* model, int64_t batch_size,
                                       fastlstm_stream** stream) {
  return guarded([&] {
    need("stream", stream);
    *stream = nullptr;
    need("model", model);
    *stream = new fastlstm_stream{model->model.stream(batch_size)};
  });
}

void fastlstm_stream_free(fastlstm_stream* stream) { delete stream; }

void fastlstm_stream_step(fastlstm_stream* stream, const float* x, float* y) {
  stream->stream.step(x, y);
}

void fastlstm_stream_step_rows(fastlstm_stream* stream, const float* x, float* y,
                               const bool* active, const bool* reset) {
  stream->stream.step(x, y, active, reset);
}

void fastlstm_stream_process(fastlstm_stream* stream, const float* x, float* y,
                             int64_t steps) {
  stream->stream.process(x, y, steps);
}

void fastlstm_stream_reset(fastlstm_stream* stream, const bool* rows) {
  stream->stream.reset(rows);
}
