// SPDX-License-Identifier: MIT
// What the Python modules of the compiled parts have in common: arrays, bytes, and parts that threads share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace htm {

namespace py = pybind11;

using Timestamps = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
using Values = py::array_t<double, py::array::c_style | py::array::forcecast>;

inline std::string_view bytes_of(const py::buffer_info& bytes) {
  if (bytes.ndim != 1 || bytes.itemsize != 1 || bytes.strides[0] != 1)
    throw std::invalid_argument("state must be bytes");
  return {static_cast<const char*>(bytes.ptr), static_cast<size_t>(bytes.size)};
}

// Something that several Python threads may call: one at a time computes.
template <class T>
class Shared {
 public:
  template <class... Arguments>
  explicit Shared(std::in_place_t, Arguments&&... arguments) : part_(std::forward<Arguments>(arguments)...) {}

  template <class F>
  auto with(F f) {
    auto lock = wait_for_turn();
    return f(part_);
  }

  // The same without the GIL: for many rows.
  template <class F>
  auto long_with(F f) {
    py::gil_scoped_release release;
    std::lock_guard<std::mutex> lock(mutex_);
    return f(part_);
  }

 private:
  // Whoever holds the mutex may be waiting for the GIL: it is let go while this thread waits.
  std::unique_lock<std::mutex> wait_for_turn() {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) {
      py::gil_scoped_release release;
      lock.lock();
    }
    return lock;
  }

  std::mutex mutex_;
  T part_;
};

}  // namespace htm
