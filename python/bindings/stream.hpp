// The type _core.Stream, which steps a fastlstm::Stream from Python; see stream.cpp.
// Recurrent fills an object of it with its own parameters.
#pragma once

#include "array.hpp"
#include "fastlstm/stream.hpp"

namespace fastlstm::bindings {

// Makes the stream of a new object.
template <class T>
void open_stream(py::handle object, const RecurrentConfig& config,
                 const LayerArrays<const T>* params, const StreamOptions<T>& options);

// Takes params, head and initial state anew.
template <class T>
void refresh_stream(py::handle object, const LayerArrays<const T>* params,
                    const Head<T>& head, const InitialState<T>& initial);

}  // namespace fastlstm::bindings
