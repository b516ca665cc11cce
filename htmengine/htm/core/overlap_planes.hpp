// SPDX-License-Identifier: MIT
// Overlaps of all columns at once, in binary digits: plane p holds digit p of every column's number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "cells.hpp"
#include "serialize.hpp"

namespace htm {

class OverlapPlanes {
 public:
  void reset(unsigned words, unsigned largest) {
    words_ = words;
    digits_ = bits_for(largest);
    planes_.assign(size_t{digits_} * words, 0);
    addend_.assign(size_t{4} * words, 0);
    carry_.resize(words);
  }

  // Adds seven bitmaps of so many words from the `first` on: carry-save adders make of them numbers of three digits,
  // which are added to the planes.
  void add(unsigned first, unsigned words, const uint64_t* const in[7]) {
    for (unsigned w = 0; w < words; ++w) {
      auto [a, a2] = full_adder(in[0][w], in[1][w], in[2][w]);
      auto [b, b2] = full_adder(in[3][w], in[4][w], in[5][w]);
      auto [ones, c2] = full_adder(a, b, in[6][w]);
      auto [twos, fours] = full_adder(a2, b2, c2);
      addend_[w] = ones;
      addend_[words_ + w] = twos;
      addend_[2 * words_ + w] = fours;
      carry_[w] = 0;
    }
    for (unsigned digit = 0; digit < digits_; ++digit) {
      const uint64_t* addend = &addend_[std::min(digit, 3u) * words_];  // the fourth digit and on are 0
      uint64_t* plane = &planes_[digit * words_ + first];
      for (unsigned w = 0; w < words; ++w) {
        auto [sum, carry] = full_adder(plane[w], addend[w], carry_[w]);
        plane[w] = sum;
        carry_[w] = carry;
      }
    }
  }

  // That of the column with this bit.
  unsigned get(unsigned bit) const {
    unsigned overlap = 0;
    for (unsigned digit = 0; digit < digits_; ++digit)
      overlap |= static_cast<unsigned>(planes_[digit * words_ + bit / 64] >> bit % 64 & 1) << digit;
    return overlap;
  }

  // The `wanted` columns of greatest overlap, ascending; among equals the highest numbers win.  The bits of these
  // columns come in their order after those of all; their own bits there mean nothing.
  void greatest(unsigned wanted, unsigned columns, const Columns& moved, Columns& winners) {
    const unsigned words = (columns + 63) / 64;
    select_all(columns, moved, words);
    chosen_.assign(words_, 0);
    for (unsigned digit = digits_; digit-- > 0;) {
      const uint64_t* plane = &planes_[digit * words_];
      unsigned with = 0;
      for (unsigned w = 0; w < words_; ++w) with += popcount(candidates_[w] & plane[w]);
      bool enough = with >= wanted;
      for (unsigned w = 0; w < words_; ++w) {
        chosen_[w] |= enough ? 0 : candidates_[w] & plane[w];
        candidates_[w] &= enough ? plane[w] : ~plane[w];
      }
      if (!enough) wanted -= with;
    }
    move_back(chosen_, moved, words);
    if (wanted > 0) choose_highest(wanted, moved, words);
    winners.clear();
    for (unsigned w = 0; w < words; ++w)
      for (uint64_t rest = chosen_[w]; rest; rest &= rest - 1)
        winners.push_back(static_cast<uint16_t>(w * 64 + lowest_bit(rest)));
  }

 private:
  static std::pair<uint64_t, uint64_t> full_adder(uint64_t x, uint64_t y, uint64_t z) {
    uint64_t half = x ^ y;
    return {half ^ z, (x & y) | (half & z)};
  }

  static void clear_after(uint64_t& word, unsigned bits) {
    if (bits % 64) word &= (uint64_t{1} << bits % 64) - 1;
  }

  // Every column's bit, `words` words of all of them first, then the moved ones'.
  void select_all(unsigned columns, const Columns& moved, unsigned words) {
    candidates_.assign(words_, ~uint64_t{0});
    clear_after(candidates_[words - 1], columns);
    clear_after(candidates_.back(), words_ > words ? static_cast<unsigned>(moved.size()) : columns);
    for (uint16_t column : moved) candidates_[column / 64] &= ~(uint64_t{1} << column % 64);
  }

  // Sets the columns' own bits for those that the moved ones have.
  void move_back(std::vector<uint64_t>& set, const Columns& moved, unsigned words) const {
    for (unsigned w = words; w < words_; ++w)
      for (uint64_t rest = set[w]; rest; rest &= rest - 1) {
        unsigned column = moved[(w - words) * 64 + lowest_bit(rest)];
        set[column / 64] |= uint64_t{1} << column % 64;
      }
  }

  // So many of the candidates that are left.
  void choose_highest(unsigned wanted, const Columns& moved, unsigned words) {
    move_back(candidates_, moved, words);
    for (unsigned w = words; w-- > 0;)
      for (; wanted > 0 && candidates_[w]; --wanted) {
        uint64_t top = uint64_t{1} << highest_bit(candidates_[w]);
        chosen_[w] |= top;
        candidates_[w] ^= top;
      }
  }

  unsigned words_ = 0, digits_ = 0;
  std::vector<uint64_t> planes_, addend_, carry_, candidates_, chosen_;
};

}  // namespace htm
