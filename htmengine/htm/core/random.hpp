// SPDX-License-Identifier: MIT
// The only source of chance in a model: a small seeded generator whose whole state is saved with the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace htm {

// SplitMix64 (Steele, Lea, Flood 2014): equal on every compiler and machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // Uniform in 0 .. bound - 1, bound at least 1.
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(((next() >> 32) * bound) >> 32); }

  // Moves `wanted` random elements, drawn without replacement, to the front (partial Fisher-Yates).
  template <class T>
  void choose(std::vector<T>& items, size_t wanted) {
    for (size_t i = 0; i < wanted; ++i) std::swap(items[i], items[i + below(static_cast<uint32_t>(items.size() - i))]);
  }

  uint64_t state() const { return state_; }
  void set_state(uint64_t state) { state_ = state; }

 private:
  uint64_t state_;
};

}  // namespace htm
