// SPDX-License-Identifier: MIT
// A small set of numbers below 64 * Words, one bit each.
#pragma once

#include <array>
#include <cstdint>

#include "cells.hpp"

namespace htm {

template <unsigned Words>
class PlaceSet {
 public:
  bool empty() const {
    uint64_t any = 0;
    for (uint64_t word : words_) any |= word;
    return any == 0;
  }
  unsigned count() const { return count(words_.data()); }
  static unsigned count(const uint64_t* words) {
    unsigned count = 0;
    for (unsigned w = 0; w < Words; ++w) count += popcount(words[w]);
    return count;
  }
  bool operator==(const PlaceSet& other) const { return words_ == other.words_; }

  // How many are in this set and in the bits of `words`.
  unsigned count_common(const uint64_t* words) const {
    unsigned count = 0;
    for (unsigned w = 0; w < Words; ++w) count += popcount(words_[w] & words[w]);
    return count;
  }
  unsigned count_common(const PlaceSet& other) const { return count_common(other.words_.data()); }
  bool has(unsigned place) const { return words_[place / 64] >> place % 64 & 1; }
  void insert(unsigned place) { words_[place / 64] |= uint64_t{1} << place % 64; }
  void insert_if(bool wanted, unsigned place) { words_[place / 64] |= uint64_t{wanted} << place % 64; }
  void erase(unsigned place) { words_[place / 64] &= ~(uint64_t{1} << place % 64); }
  void erase(const PlaceSet& others) {
    for (unsigned w = 0; w < Words; ++w) words_[w] &= ~others.words_[w];
  }

  // The lowest number that is not in the set; there must be one.
  unsigned lowest_free() const {
    unsigned w = 0;
    while (words_[w] == ~uint64_t{0}) ++w;
    return 64 * w + lowest_bit(~words_[w]);
  }

  // In ascending order.
  template <class Visit>
  void for_each(Visit visit) const {
    for (unsigned w = 0; w < Words; ++w)
      for (uint64_t rest = words_[w]; rest; rest &= rest - 1) visit(64 * w + lowest_bit(rest));
  }

 private:
  std::array<uint64_t, Words> words_{};
};

}  // namespace htm
